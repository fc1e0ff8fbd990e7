"""The host's conds and context windows, as the core identifies them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from ..request import CondKey, PassRequest, Place

Cond = dict[str, Any]


def pass_request(
    conds: Sequence[Sequence[Cond] | None], sigma: float, model: int, window: Hashable, evaluation: int
) -> PassRequest:
    """What the host is about to evaluate.

    Args:
        conds: the host's conds of each branch, in order; None for a branch that is not asked for.
        sigma: noise level of the pass.
        model: identity of the model.
        window: from `window_key`.
        evaluation: ordinal of the evaluation within its step.
    """
    active = [None if branch is None else [cond for cond in branch if _is_active(cond, sigma)] for branch in conds]
    branches = tuple(
        None if branch is None else tuple(CondKey(index, cond["uuid"]) for cond in branch)
        for index, branch in enumerate(active)
    )
    keys = [key for branch in branches for key in branch or ()]
    areas = tuple(_area(cond) for branch in active for cond in branch or ())
    # Conds that share their id are told apart by their order, which holds only while the set of conds stays the same.
    is_ambiguous = len(set(keys)) < len(keys)
    return PassRequest(Place(model, window, evaluation, (*keys, *areas) if is_ambiguous else None), branches)


def window_key(transformer_options: dict[str, Any]) -> Hashable:
    """Identity of the context window that is being evaluated, None without windows. The object is new every step."""
    window = transformer_options.get("context_window")
    return None if window is None else (tuple(window.index_list), window.dim)


def _is_active(cond: Cond, sigma: float) -> bool:
    """Whether the host will evaluate a cond at this noise level: its own test of the cond's timestep range."""
    return not (sigma > cond.get("timestep_start", sigma) or sigma < cond.get("timestep_end", sigma))


def _area(cond: Cond) -> tuple[Hashable, ...]:
    return tuple(cond.get("area") or ())
