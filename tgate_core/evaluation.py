"""The sampler's evaluations of the model: which step each is, and which of its passes is the main one."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from torch import Tensor

from .request import CondKey


@dataclass
class Evaluation:
    """One evaluation of the model by the sampler.

    Attributes:
        shape: shape of the latent that is denoised, (B, C, ...).
        step: step it belongs to, None until its first pass.
        ordinal: how many evaluations of that step came before.
        survivors: ids of the conds that ran where a branch was dropped; None where none was.
    """

    shape: tuple[int, ...]
    step: int | None = None
    ordinal: int = 0
    survivors: set[Hashable] | None = None
    _passes: set[tuple[int, Hashable]] = field(default_factory=set)

    def again(self) -> Evaluation:
        """The same evaluation, not yet begun."""
        return Evaluation(self.shape, self.step, self.ordinal)

    def admits(self, model: int, window: Hashable, shape: tuple[int, ...]) -> bool:
        """Whether a pass is the main one of its model and window; further ones are other nodes' auxiliary passes.

        A pass over another shape, outside of context windows, is a tile cut out by another node: its place within the
        latent is unknown, so it counts as auxiliary too.
        """
        is_first = (model, window) not in self._passes
        self._passes.add((model, window))
        return is_first and (window is not None or shape == self.shape)


@dataclass
class Baseline:
    """What the last pass with all branches at a place leaves to those that run with one.

    Attributes:
        conds: all conds of both branches that were asked for.
        difference: their guidance difference in noise space, latent shape (B, C, ...); None where it is not kept.
        last_used: when it was made or used.
    """

    conds: tuple[CondKey, ...]
    difference: Tensor | None
    last_used: int
