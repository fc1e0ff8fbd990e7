"""A network call that skips the deep blocks of a UNet, and the deep feature that replaces their output.

The host's UNet runs all blocks in a row. It asks `forward_timestep_embed_patch` who runs a layer: for deep layers that
is us, and we do nothing. What goes through the deep blocks then has no channels, until `output_block_patch` gives the
first shallow output block the deep feature.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, TimestepBlock, forward_timestep_embed
from torch import Tensor, nn

from ..deepcache.schedule import BlockSplit, branch_count, split_blocks
from ..deepcache.technique import DeepCall
from .attention import Options

Patch = Callable[..., Any]
Control = dict[str, list[Tensor | None]]

# Patches that the host calls with the outcome of a block. The last argument is, or holds, the options.
_BLOCK_PATCHES = (
    "input_block_patch",
    "input_block_patch_after_skip",
    "middle_block_after_patch",
    "output_block_patch",
)


def arranged_in_depth(
    network: nn.Module, call: DeepCall, control: Control | None, transformer_options: Options
) -> tuple[Control | None, Options]:
    """Control and options of a network call that keeps the deep feature, or runs on what was kept.

    As they are where the network is not a UNet, or is cut nowhere: guiders may run a second model by the same options.
    """
    split = _split(network, call.branch)
    if split is None:
        return control, transformer_options
    # The network takes out what it has used: our own lists, in which what is not used can be made to be missing.
    own_control = None if control is None else {name: list(tensors) for name, tensors in control.items()}
    at_blocks = _CallAtBlocks(call, split, own_control)
    patches = transformer_options.get("patches", {})
    arranged = {
        **patches,
        **{name: [at_blocks.unless_deep(p) for p in patches.get(name, ())] for name in _BLOCK_PATCHES},
    }
    arranged["input_block_patch"].append(at_blocks.after_input)
    arranged["output_block_patch"].insert(0, at_blocks.before_output)
    layers = _DeepLayers(call, frozenset(_layers(network, split)))
    arranged["forward_timestep_embed_patch"] = [(layers, _skip), *patches.get("forward_timestep_embed_patch", ())]
    return own_control, {**transformer_options, "patches": arranged}


class _Probe(TimestepBlock):  # type: ignore[misc]  # the host has no types
    """A layer that says whether it was run."""

    def forward(self, x: Any, emb: Any) -> bool:
        return True


def can_leave_out_layers() -> bool:
    """Whether the host asks `forward_timestep_embed_patch` about all layers; old ones do about a few kinds alone."""
    patches = {"forward_timestep_embed_patch": [(_Probe, lambda *_: False)]}
    return not forward_timestep_embed([_Probe()], None, None, transformer_options={"patches": patches})


def deep_branches(network: nn.Module) -> int:
    """At how many skip connections a network can be cut; 0 for one that is not a UNet."""
    blocks = getattr(network, "output_blocks", None)
    if blocks is None or not hasattr(network, "input_blocks"):
        return 0
    return max(0, branch_count(len(blocks), has_middle=getattr(network, "middle_block", None) is not None))


def _split(network: Any, branch: int) -> BlockSplit | None:
    """Where a network is cut: at `branch`, or at its deepest where it has no such branch."""
    branches = deep_branches(network)
    return split_blocks(min(branch, branches - 1), len(network.output_blocks)) if branches else None


def feature_size(network: Any, branch: int, height: int, width: int) -> int:
    """Elements of the deep feature of one latent of this size; 0 for a network that is not a UNet."""
    split = _split(network, branch)
    if split is None:
        return 0
    before = network.output_blocks[split.first_output - 1] if split.first_output else network.middle_block
    halvings = sum(
        isinstance(layer, Downsample) for block in network.input_blocks[: split.last_input + 1] for layer in block
    )
    scale: int = 2**halvings
    return int(before[0].out_channels) * math.ceil(height / scale) * math.ceil(width / scale)


def deep_layers(network: Any, branch: int) -> Iterator[nn.Module]:
    """The layers that a shallow call leaves out; none of a network that is not a UNet."""
    split = _split(network, branch)
    if split is not None:
        yield from _layers(network, split)


def within_layers(network: Any, parts: Iterable[nn.Module]) -> bool:
    """Whether each of these parts of a UNet is within one of its layers; of other networks nothing is left out."""
    if not deep_branches(network):
        return not hasattr(network, "_orig_mod")
    stages = (*network.input_blocks, network.middle_block or (), *network.output_blocks)
    inner = {id(module) for stage in stages for layer in stage for module in layer.modules()}
    return all(id(part) in inner for part in parts)


def _layers(network: Any, split: BlockSplit) -> Iterator[nn.Module]:
    """The layers of all deep blocks."""
    yield from (layer for block in network.input_blocks[split.last_input + 1 :] for layer in block)
    yield from network.middle_block or ()
    yield from (layer for block in network.output_blocks[: split.first_output] for layer in block)


class _DeepLayers:
    """Stands where the host expects a class of layers: those that are left out, once the call is known to be shallow.

    So that no other node's handler is asked about these layers, and each about all others.
    """

    def __init__(self, call: DeepCall, layers: frozenset[nn.Module]) -> None:
        self._call = call
        self._layers = layers

    def __instancecheck__(self, layer: object) -> bool:
        return self._call.is_shallow and layer in self._layers


def _skip(layer: nn.Module, x: Tensor, emb: Tensor, context: Any, transformer_options: Options, *_: Any) -> Tensor:
    """In place of a layer: `x` (conds * B, C, H, W) without its channels. Transformers are still counted."""
    if isinstance(layer, SpatialTransformer) and "transformer_index" in transformer_options:
        transformer_options["transformer_index"] += 1
    return x[:, :0]


class _CallAtBlocks:
    """A network call as the patches at the blocks see it."""

    def __init__(self, call: DeepCall, split: BlockSplit, control: Control | None) -> None:
        self._call = call
        self._split = split
        self._control = control

    def after_input(self, h: Tensor, transformer_options: Options) -> Tensor:
        """input_block_patch, behind all others: `h` (conds * B, C, H, W) is about to become a skip connection."""
        if transformer_options["block"] == ("input", self._split.last_input):
            self._call.meet_skip(h)
            if self._call.is_shallow and self._control is not None:
                _leave_out(self._control, self._split.first_output)
        return h

    def before_output(self, h: Tensor, skip: Tensor, transformer_options: Options) -> tuple[Tensor, Tensor]:
        """output_block_patch, before all others: `h` comes from the block before, `skip` from the way in."""
        if transformer_options["block"] == ("output", self._split.first_output):
            h = self._call.meet_feature(h)
        return h, skip

    def unless_deep(self, patch: Patch) -> Patch:
        """Another node's patch, standing aside at blocks that are left out: its inputs come back as they are."""

        def conditional_patch(*args: Any) -> Any:
            options = args[-1].get("transformer_options", args[-1])
            if not (self._call.is_shallow and self._split.is_deep(options["block"])):
                return patch(*args)
            inputs = args[:-1] or args
            return inputs[0] if len(inputs) == 1 else inputs

        return conditional_patch


def _leave_out(control: Control, deep_outputs: int) -> None:
    """Take control of all blocks that are left out from what the network has still to use.

    It takes from the end of each list, for one block after the other, where there is one left.
    """
    for name in ("input", "middle"):
        control.get(name, []).clear()
    rest = control.get("output", [])
    left_out = min(deep_outputs, len(rest))
    rest[len(rest) - left_out :] = [None] * left_out
