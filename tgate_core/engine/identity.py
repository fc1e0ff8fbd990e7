"""Who asks the model for what: evaluations, cond batches, and the keys under which captures are kept.

A capture is reused only at the same `Place` of the same run, for the same `CondKey` and the same part of it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from .location import is_same

if TYPE_CHECKING:
    from .technique import BatchPlan

# Values by which a latent is recognised, as far as a move to half precision leaves them.
SAMPLED_VALUES = 64
RELATIVE_TOLERANCE = 1e-2

COND = 0
UNCOND = 1


class CondKey(NamedTuple):
    """One cond: its guidance branch (COND, UNCOND or a further one) and the host's id of it.

    The id alone is not enough: the host copies conds with their id when it pairs areas across branches.
    """

    branch: int
    uuid: Hashable


class Place(NamedTuple):
    """Where a cond batch stands within a step.

    Attributes:
        model: identity of the real model (some guiders run two).
        window: identity of the context window, None without windows.
        evaluation: ordinal of the sampler's evaluation within its step (second-order samplers have several).
        conds: None where all conds are told apart by `CondKey`; else what tells this set of conds from others.
        latent: identity of what is denoised, see `latent_key`.
    """

    model: int
    window: Hashable
    evaluation: int
    conds: Hashable
    latent: Hashable = None


def latent_key(latent: Tensor, shifts: int) -> Hashable:
    """Identifies a latent within a run: samplers may resize it, drop rows of its batch, or move it.

    Args:
        latent: what is denoised, (B, C, H, W) or more dimensions.
        shifts: how often it was seen to have moved, see `is_in_place`.
    """
    return (tuple(latent.shape), latent.dtype, latent.device, shifts)


@dataclass(frozen=True)
class CondBatch:
    """The conds of all guidance branches, as the sampler asks the host for them in one pass.

    Attributes:
        place: where it happens.
        branches: active conds of each branch, in order; None for a branch that is not asked for.
        shapes: what each cond covers of the latent: its height and width, or whatever dimensions it has.
    """

    place: Place
    branches: tuple[tuple[CondKey, ...] | None, ...]
    shapes: Mapping[CondKey, frozenset[tuple[int, ...]]]

    @property
    def is_guided(self) -> bool:
        """Whether this is classifier-free guidance between exactly two branches that both have something to run."""
        return len(self.branches) == 2 and all(self.branches)

    @property
    def has_one_cond_each(self) -> bool:
        """Whether cond and uncond consist of one cond each, so that their captures can be merged."""
        return self.is_guided and all(branch is not None and len(branch) == 1 for branch in self.branches)

    @property
    def pair(self) -> tuple[CondKey, ...]:
        """All conds of both branches: the owner of what is merged from them."""
        return (*self.conds(COND), *self.conds(UNCOND))

    def conds(self, branch: int) -> tuple[CondKey, ...]:
        """Active conds of one branch; empty when it is not asked for."""
        return self.branches[branch] or ()


class FeatureOwner(NamedTuple):
    """One cond from one full step to the next: owner of a deep feature."""

    cond: CondKey
    cycle: int


class BankKey(NamedTuple):
    """Identifies a bank of captures.

    Attributes:
        place: where in a step.
        owner: the cond; or cond and uncond together, for the anchor merged from both; or of a deep feature.
        part: what of it: the ordinal of the network call within the pass, or the offset of a tile.
    """

    place: Place
    owner: CondKey | tuple[CondKey, ...] | FeatureOwner
    part: Hashable


@dataclass
class ModelEvaluation:
    """One evaluation of the model by the sampler.

    Attributes:
        latent: what is denoised, (B, C, ...).
        shifts: how often the latent has moved in this run so far.
        step: step it belongs to, None until its first pass.
        ordinal: how many evaluations of that step came before.
        survivors: ids of the conds that ran where a branch was dropped or predicted; None where none was.
        plans: of its main passes so far, those that were repeated apart.
    """

    latent: Tensor
    shifts: int = 0
    step: int | None = None
    ordinal: int = 0
    survivors: set[Hashable] | None = None
    plans: list[BatchPlan] = field(default_factory=list)
    _passes: set[tuple[int, Hashable]] = field(default_factory=set)

    def again(self) -> ModelEvaluation:
        """The same evaluation, not yet begun."""
        return ModelEvaluation(self.latent, self.shifts, self.step, self.ordinal)

    def claim_main_pass(self, model: int, window: Hashable, x: Tensor) -> bool:
        """Claim the main pass of a model and window for a pass over `x` (B, C, ...); False where it is taken.

        Further passes are other nodes' auxiliary ones. So is a pass over anything but the latent, outside of context
        windows: a tile, or frames in another order, whose place within the latent is unknown.
        """
        if (model, window) in self._passes or not (window is not None or is_same(x, self.latent)):
            return False
        self._passes.add((model, window))
        return True


class Fingerprint(NamedTuple):
    """Identifies a latent: its shape, and values spread over all of it."""

    shape: tuple[int, ...]
    values: tuple[float, ...]

    @classmethod
    def of(cls, latent: Tensor) -> Fingerprint:
        """The fingerprint of a latent, (B, C, …); several latents in one as the one that is sampled."""
        if latent.is_nested:  # as the host packs it for samplers
            latent = torch.cat([one.reshape(one.shape[0], 1, -1) for one in latent.unbind()], dim=-1)
        flat = latent.detach().flatten()
        spread = flat[:: max(1, flat.numel() // SAMPLED_VALUES)]
        return cls(tuple(latent.shape), tuple(spread.float().tolist()))

    def matches(self, other: Fingerprint) -> bool:
        """Whether both are of the same latent, up to its precision."""
        if self.shape != other.shape:
            return False
        largest = max((abs(value) for value in self.values if math.isfinite(value)), default=0.0)
        tolerance = RELATIVE_TOLERANCE * largest
        return all(
            one == two or abs(one - two) <= tolerance or (math.isnan(one) and math.isnan(two))
            for one, two in zip(self.values, other.values, strict=True)
        )
