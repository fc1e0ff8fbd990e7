"""Recording what a model really runs: attention modules by forward hooks, network calls by a wrapper."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import comfy.model_patcher
import torch
from comfy.patcher_extension import WrappersMP
from torch.utils.hooks import RemovableHandle


@dataclass
class Call:
    """One network call: its noise level, the branches in its batch, and how many attentions really computed."""

    sigma: float
    branches: list[int]
    self_attention: int = 0
    cross_attention: int = 0


@dataclass
class Recording:
    """All network calls of the runs made while recording, and the schedule of the last run."""

    calls: list[Call] = field(default_factory=list)
    sigmas: list[float] = field(default_factory=list)

    @property
    def batches(self) -> list[int]:
        """Number of conds in each call."""
        return [len(call.branches) for call in self.calls]

    def per_call(self, kind: str) -> list[int]:
        """Attentions of one kind computed in each call."""
        return [getattr(call, kind) for call in self.calls]


@contextmanager
def watching_calls(
    run_on: comfy.model_patcher.ModelPatcher, begin: Callable[[Any], None], hooks: Iterable[RemovableHandle]
) -> Iterator[None]:
    """Within it, `begin` gets the host's options of each network call of `run_on`; at its end, the hooks go."""

    def call(executor: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        begin(args[5])
        return executor(*args, **kwargs)

    key = f"watching calls {id(begin)}"
    run_on.add_wrapper_with_key(WrappersMP.APPLY_MODEL, key, call)
    try:
        yield
    finally:
        run_on.remove_wrappers_with_key(WrappersMP.APPLY_MODEL, key)
        for hook in hooks:
            hook.remove()


def with_runs(model: comfy.model_patcher.ModelPatcher) -> tuple[comfy.model_patcher.ModelPatcher, list[Any]]:
    """A clone of `model`, and T-GATE's state of each run that it is sampled in."""
    runs: list[Any] = []

    def look(executor: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        runs.append(executor.class_obj.model_options["transformer_options"]["tgate_run"])
        return executor(*args, **kwargs)

    clone = model.clone()
    clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "with runs", look)
    return clone, runs


@contextmanager
def recording(model: comfy.model_patcher.ModelPatcher, run_on: comfy.model_patcher.ModelPatcher) -> Iterator[Recording]:
    """Record what `run_on`, a (patched) clone of `model`, computes.

    A projection runs exactly when its attention does, so hooks sit on `to_q`: the module's own forward may be replaced.
    """
    from tiny import blocks

    record = Recording()

    def begin_call(options: Any) -> None:
        record.sigmas = options["sample_sigmas"].tolist()
        record.calls.append(Call(float(options["sigmas"][0]), list(options["cond_or_uncond"])))

    def count(kind: str) -> Any:
        def hook(*_: Any) -> None:
            call = record.calls[-1]
            setattr(call, kind, getattr(call, kind) + 1)

        return hook

    handles = []
    for block in blocks(model):
        handles.append(block.attn1.to_q.register_forward_hook(count("self_attention")))
        handles.append(block.attn2.to_q.register_forward_hook(count("cross_attention")))
    with watching_calls(run_on, begin_call, handles):
        yield record
