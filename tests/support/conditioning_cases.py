"""Conditionings as people build them with the host's nodes, each as a pair of positive and negative."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import comfy_extras.nodes_hooks as hook_nodes
import torch
from graphs import Conditioning, area, area_percentage, combine, left_mask, masked, ranged
from tiny import text

import nodes as host_nodes

Pair = tuple[Conditioning, Conditioning]


@dataclass(frozen=True)
class Case:
    """One conditioning.

    Attributes:
        build: makes positive and negative for a latent of 8 × 8.
        conds: conds that run of each branch, positive first.
        cfg: guidance scale.
    """

    build: Callable[[], Pair]
    conds: tuple[int, int] = (1, 1)
    cfg: float = 5.0

    @property
    def is_guided(self) -> bool:
        """Whether both branches have something to run."""
        return all(self.conds)

    @property
    def can_merge(self) -> bool:
        """Whether both branches have one cond, so that their captures have a mean."""
        return self.conds == (1, 1)

    def effective(self, guidance: str) -> str:
        """The guidance mode that the branch rule leaves."""
        if not self.is_guided or (guidance == "uncond" and not self.can_merge):
            return "keep"
        return guidance


A, B, C, NEGATIVE = text(1), text(3), text(4), text(2)


def _average() -> Conditioning:
    return host_nodes.ConditioningAverage().addWeighted(A, text(3, tokens=12), 0.3)[0]


def _concat() -> Conditioning:
    return host_nodes.ConditioningConcat().concat(A, B)[0]


def _strength(cond: Conditioning, strength: float) -> Conditioning:
    return host_nodes.ConditioningSetAreaStrength().append(cond, strength)[0]


def _zeroed(cond: Conditioning) -> Conditioning:
    return host_nodes.ConditioningZeroOut().zero_out(cond)[0]


def _right_mask() -> torch.Tensor:
    return 1.0 - left_mask()


def _regions() -> Conditioning:
    return combine(area(A, 8, 4, 0, 0), area(B, 8, 4, 0, 4), C)


def _default() -> Pair:
    node = hook_nodes.PairConditioningSetDefaultAndCombine()
    return node.set_default_and_combine(masked(A, left_mask()), masked(NEGATIVE, left_mask()), B, C)


def _default_positive() -> Pair:
    node = hook_nodes.ConditioningSetDefaultAndCombine()
    return node.set_default_and_combine(masked(A, left_mask()), B)[0], NEGATIVE


CASES: dict[str, Case] = {
    "one cond each": Case(lambda: (A, NEGATIVE)),
    "combine: two positives": Case(lambda: (combine(A, B), NEGATIVE), (2, 1)),
    "combine: the same cond twice": Case(lambda: (combine(A, A), NEGATIVE), (2, 1)),
    "combine: two negatives": Case(lambda: (A, combine(NEGATIVE, B)), (1, 2)),
    "combine: two of each": Case(lambda: (combine(A, B), combine(NEGATIVE, C)), (2, 2)),
    "concat": Case(lambda: (_concat(), NEGATIVE)),
    "average": Case(lambda: (_average(), NEGATIVE)),
    "the same object on both sides": Case(lambda: (A, A)),
    "strength below 1": Case(lambda: (_strength(A, 0.4), _strength(NEGATIVE, 0.7))),
    "strengths of two": Case(lambda: (combine(_strength(A, 0.3), _strength(B, 1.5)), NEGATIVE), (2, 1)),
    "area on one side": Case(lambda: (area(A, 8, 4, 0, 2), NEGATIVE), (1, 2)),
    "area on one side and the rest": Case(lambda: (combine(area(A, 6, 4, 1, 2), B), NEGATIVE), (2, 2)),
    "regions over a whole": Case(lambda: (_regions(), NEGATIVE), (3, 3)),
    "the same area on both sides": Case(lambda: (area(A, 8, 4, 0, 2), area(NEGATIVE, 8, 4, 0, 2))),
    "areas that overlap": Case(lambda: (combine(area(A, 8, 6, 0, 0), area(B, 8, 6, 0, 2)), NEGATIVE), (2, 3)),
    "area in percent": Case(lambda: (combine(area_percentage(A, (0.5, 0.5, 0.25, 0.5)), B), NEGATIVE), (2, 2)),
    "area with strength": Case(lambda: (combine(area(A, 4, 4, 2, 2, 0.5), B), NEGATIVE), (2, 2)),
    "mask": Case(lambda: (masked(A, left_mask()), NEGATIVE)),
    "masks of two": Case(lambda: (combine(masked(A, left_mask()), masked(B, _right_mask(), 0.6)), NEGATIVE), (2, 1)),
    "mask bounds": Case(lambda: (combine(masked(A, left_mask(), 1.0, "mask bounds"), B), NEGATIVE), (2, 2)),
    "mask within an area": Case(lambda: (masked(area(A, 8, 4, 0, 2), left_mask()), NEGATIVE), (1, 2)),
    "more tokens in the positive": Case(lambda: (text(1, tokens=9), text(2, tokens=8))),
    "twice the tokens in the negative": Case(lambda: (A, text(2, tokens=16))),
    "three token counts": Case(lambda: (combine(A, text(3, tokens=11)), text(2, tokens=13)), (2, 1)),
    "no negative at all": Case(lambda: (A, []), (1, 0)),
    "zeroed negative": Case(lambda: (A, _zeroed(NEGATIVE))),
    "cfg 1": Case(lambda: (A, NEGATIVE), (1, 0), cfg=1.0),
    "cfg 1, two positives": Case(lambda: (combine(A, B), NEGATIVE), (2, 0), cfg=1.0),
    "cfg below 1": Case(lambda: (A, NEGATIVE), cfg=0.5),
    "default conds of both sides": Case(_default, (2, 2)),
    "default cond of one side": Case(_default_positive, (2, 1)),
    "range over the whole run": Case(lambda: (ranged(A, 0.0, 1.0), NEGATIVE)),
    "range that ends before the gate": Case(lambda: (combine(A, ranged(B, 0.0, 0.2)), NEGATIVE)),
    "range that never begins": Case(lambda: (combine(A, ranged(B, 1.0, 1.0)), NEGATIVE)),
}
