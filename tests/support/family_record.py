"""What the attentions of a family's model really run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from comfy.model_patcher import ModelPatcher
from families import Family
from record import watching_calls
from torch import nn


class LayerUse:
    """Per network call: conds in the batch, and forwards of layers with weights in each kind of attention."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.forwards: list[Counter[str]] = []

    def of(self, kind: str) -> list[int]:
        """Forwards in attentions of one kind, "self" or "cross", one number a call."""
        return [counts[kind] for counts in self.forwards]


@contextmanager
def layer_use(family: Family, run_on: ModelPatcher, model: ModelPatcher | None = None) -> Iterator[LayerUse]:
    """Record what runs of `run_on` use of `model`, or of the model that `run_on` runs.

    Hooks sit on the layers: the attentions' own forwards may be replaced.
    """
    use = LayerUse()

    def begin_call(options: Any) -> None:
        use.batches.append(len(options["cond_or_uncond"]))
        use.forwards.append(Counter())

    def count(kind: str) -> Any:
        return lambda *_: use.forwards[-1].update([kind])

    handles = [
        layer.register_forward_pre_hook(count(kind))
        for pair in family.pairs(model or run_on)
        for kind, attention in zip(("self", "cross"), pair, strict=True)
        for layer in attention.modules()
        if isinstance(layer, nn.Linear)
    ]
    with watching_calls(run_on, begin_call, handles):
        yield use
