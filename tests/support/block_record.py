"""Recording which blocks of a UNet each network call really runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from comfy.model_patcher import ModelPatcher
from record import watching_calls

Block = tuple[str, int]


@dataclass
class BlockCall:
    """One network call: the branches in its batch, and the blocks of which any layer ran."""

    branches: list[int]
    blocks: set[Block] = field(default_factory=set)


@dataclass
class BlockRecord:
    """All network calls of the runs made while recording."""

    everything: set[Block]
    calls: list[BlockCall] = field(default_factory=list)

    @property
    def depths(self) -> str:
        """One letter a call: F where all blocks ran, s where fewer did."""
        return "".join("F" if call.blocks == self.everything else "s" for call in self.calls)


def unet_blocks(model: ModelPatcher) -> dict[Block, Any]:
    """The blocks of a UNet by the host's names."""
    unet = model.model.diffusion_model
    middle = {} if unet.middle_block is None else {("middle", 0): unet.middle_block}
    return {
        **{("input", index): block for index, block in enumerate(unet.input_blocks)},
        **middle,
        **{("output", index): block for index, block in enumerate(unet.output_blocks)},
    }


def shallow_blocks(model: ModelPatcher, branch: int = 0) -> set[Block]:
    """What runs in a shallow call."""
    count = len(model.model.diffusion_model.output_blocks)
    kept = range(branch + 2)
    return {("input", index) for index in kept} | {("output", count - 1 - index) for index in kept}


@contextmanager
def block_recording(model: ModelPatcher, run_on: ModelPatcher) -> Iterator[BlockRecord]:
    """Record what `run_on`, a (patched) clone of `model`, runs."""
    named = unet_blocks(model)
    record = BlockRecord(set(named))

    def begin_call(options: Any) -> None:
        record.calls.append(BlockCall(list(options["cond_or_uncond"])))

    def note(name: Block) -> Any:
        return lambda *_: record.calls[-1].blocks.add(name)

    # On what each layer is made of: a layer that is asked and does nothing runs none of it.
    parts = [(name, part) for name, block in named.items() for part in block.modules() if not list(part.children())]
    handles = [part.register_forward_hook(note(name)) for name, part in parts]
    with watching_calls(run_on, begin_call, handles):
        yield record
