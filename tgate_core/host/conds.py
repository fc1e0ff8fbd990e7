"""The host's conds and context windows, as the core identifies them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from ctypes import c_float
from typing import Any

from ..engine.identity import CondBatch, CondKey, Place

Cond = dict[str, Any]
Shape = tuple[int, ...]


def cond_batch(conds: Sequence[Sequence[Cond] | None], sigma: float, place: Place, shape: Shape) -> CondBatch:
    """What the host is about to evaluate.

    Args:
        conds: the host's conds of each branch, in order; None for a branch that is not asked for.
        sigma: noise level.
        place: where it stands, its `conds` not yet known.
        shape: height and width of the latent, or whatever dimensions it has behind its channels.
    """
    active = [None if branch is None else [cond for cond in branch if _is_active(cond, sigma)] for branch in conds]
    branches = tuple(
        None if branch is None else tuple(CondKey(index, cond["uuid"]) for cond in branch)
        for index, branch in enumerate(active)
    )
    keys = [key for branch in branches for key in branch or ()]
    areas = [_area(cond, shape) for branch in active for cond in branch or ()]
    shapes: dict[CondKey, frozenset[Shape]] = {}
    for key, (size, _) in zip(keys, areas, strict=True):
        shapes[key] = shapes.get(key, frozenset()) | {size}
    # Conds that share their id are told apart by their order, which holds only while the set of conds stays the same.
    is_ambiguous = len(shapes) < len(keys)
    return CondBatch(place._replace(conds=(*keys, *areas) if is_ambiguous else None), branches, shapes)


def window_key(transformer_options: dict[str, Any]) -> Hashable:
    """Identity of the context window that is being evaluated, None without windows. The object is new every step."""
    window = transformer_options.get("context_window")
    if window is not None:
        return (tuple(window.index_list), window.dim)
    # AnimateDiff-Evolved tells other nodes by these names which frames, a batch to the network, its window has.
    frames = transformer_options.get("ad_params", {}).get("sub_idxs")
    return None if frames is None else (tuple(frames), 0)


def _is_active(cond: Cond, sigma: float) -> bool:
    """Whether the host will evaluate a cond at this noise level: its own test of the cond's timestep range."""
    if "timestep_start" not in cond and "timestep_end" not in cond:
        return True
    # The host compares with a float32 tensor, which rounds the bounds; some models give them in double precision.
    start, end = (c_float(cond.get(name, sigma)).value for name in ("timestep_start", "timestep_end"))
    return not (sigma > start or sigma < end)


def _area(cond: Cond, shape: Shape) -> tuple[Shape, Shape]:
    """Size and offset of what a cond covers. The host writes areas as (*size, *offset), cut off at the edge."""
    area = tuple(cond.get("area") or ())
    if not area:
        return shape, (0,) * len(shape)
    size, offset = area[: len(area) // 2], area[len(area) // 2 :]
    missing = len(shape) - len(size)  # a still's area on a video covers all frames
    size, offset = (*shape[:missing], *size)[: len(shape)], (*(0 for _ in shape[:missing]), *offset)[: len(shape)]
    return tuple(min(n, full - start) for n, full, start in zip(size, shape, offset, strict=True)), offset
