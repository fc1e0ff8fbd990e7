"""Who asks the model for what: the identity of conds and places, by which captures are keyed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

COND = 0
UNCOND = 1


class CondKey(NamedTuple):
    """One cond: its guidance branch (COND, UNCOND or a further one) and the host's id of it.

    The id alone is not enough: the host copies conds with their id when it pairs areas across branches.
    """

    branch: int
    uuid: Hashable


class Place(NamedTuple):
    """Where in a step a pass happens. Captures are reused only at the same place.

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
    """Identity of a latent within a run: samplers may resize it, drop rows of its batch, or shift it.

    Args:
        latent: what is denoised, (B, C, H, W) or more dimensions.
        shifts: how often it was seen to have moved, see `is_in_place`.
    """
    return (tuple(latent.shape), latent.dtype, latent.device, shifts)


@dataclass(frozen=True)
class PassRequest:
    """One pass over the guidance branches, as the sampler asks for it.

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
    """One cond in one cycle of DeepCache, which owns a deep feature and nothing else."""

    cond: CondKey
    cycle: int


class BankKey(NamedTuple):
    """What a bank of captures belongs to.

    Attributes:
        place: where in a step.
        owner: the cond; or cond and uncond together, for the anchor merged from both; or of a deep feature.
        part: what of it: the ordinal of the network call within the pass, or the offset of a tile.
    """

    place: Place
    owner: CondKey | tuple[CondKey, ...] | FeatureOwner
    part: Hashable
