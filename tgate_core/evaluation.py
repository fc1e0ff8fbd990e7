"""The sampler's evaluations of the model: which step each is, and which of its passes is the main one."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from torch import Tensor

from .request import CondKey
from .tiles import is_same


@dataclass
class Evaluation:
    """One evaluation of the model by the sampler.

    Attributes:
        latent: what is denoised, (B, C, ...).
        shifts: how often the latent has moved in this run so far.
        step: step it belongs to, None until its first pass.
        ordinal: how many evaluations of that step came before.
        survivors: ids of the conds that ran where a branch was dropped; None where none was.
    """

    latent: Tensor
    shifts: int = 0
    step: int | None = None
    ordinal: int = 0
    survivors: set[Hashable] | None = None
    _passes: set[tuple[int, Hashable]] = field(default_factory=set)

    def again(self) -> Evaluation:
        """The same evaluation, not yet begun."""
        return Evaluation(self.latent, self.shifts, self.step, self.ordinal)

    def admits(self, model: int, window: Hashable, x: Tensor) -> bool:
        """Whether a pass over `x` (B, C, ...) is the main one of its model and window.

        Further ones are other nodes' auxiliary passes. So is one over anything but the latent, outside of context
        windows: a tile, or frames in another order, whose place within the latent is unknown.
        """
        if (model, window) in self._passes or not (window is not None or is_same(x, self.latent)):
            return False
        self._passes.add((model, window))
        return True


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
