"""When the fidelity phase takes a guided step again, so that its captures and its guidance difference do not age.

A refreshed step runs all branches in full, captures attention anew and takes a new difference. The gaps between such
steps grow: what a prompt adds changes less and less (arXiv 2404.02747, figure 2). None is late. A multistep sampler
extrapolates from its last two predictions, by the ratio of the last two steps in log sigma. Towards the end of most
schedules that ratio grows, and with it what a jump of the difference does to the picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from ..engine.location import SMALLEST_NORM
from ..engine.steps import growth_in_log_sigma, round_half_up

RefreshRule = Literal["never", "growing gaps", "by error"]
REFRESH_RULES: tuple[RefreshRule, ...] = get_args(RefreshRule)

# Each gap is this much longer than the one before.
GROWTH = 1.4
# Where the number of guided steps is given: the k-th lies at this power of its share, and the last one as many of its
# own gaps before the end. Measured with `bench quality`.
SPREAD, GAPS_LEFT = 1.5, 2
# Most that a gap grows from one to the next where the error decides.
MOST_GROWTH = 2.0
# A step is late where it is this much longer, in log sigma, than the one before it, and in the last part of a run.
LATE_RATIO = 1.5
LATE_SHARE = 0.86


def last_refresh_step(sigmas: Sequence[float]) -> int:
    """The last step that may be refreshed, -1 where none may.

    Args:
        sigmas: the run's schedule of N + 1 noise levels.
    """
    steps = len(sigmas) - 1
    last = math.ceil(LATE_SHARE * steps) - 1
    late = (step for step in range(steps // 2, last + 1) if growth_in_log_sigma(sigmas, step) > LATE_RATIO)
    return next(late, last + 1) - 1


def growing_gaps(gate_step: int, first_gap: int, last: int) -> frozenset[int]:
    """Steps to refresh: from the last step of the planning phase on, in gaps that grow.

    Args:
        gate_step: first step of the fidelity phase.
        first_gap: steps from the last guided one to the first that is refreshed.
        last: the last step that may be.
    """
    refreshed, place, gap = [], float(max(gate_step - 1, 0)), float(first_gap)
    while (step := round_half_up(place + gap)) <= last:
        if step >= gate_step:
            refreshed.append(step)
        place, gap = place + gap, gap * GROWTH
    return frozenset(refreshed)


def spread_steps(steps: int, guided: int, latest: int | None = None) -> tuple[int, ...]:
    """The guided steps of a run, in gaps that grow, from its first step on.

    Args:
        steps: number of steps N.
        guided: how many of them are guided; fewer are where there is no room.
        latest: the last step that may be.
    """
    # The last gap is about SPREAD * last / guided.
    latest = steps - 1 if latest is None else latest
    last = min(latest, (steps - 1) * guided / (guided + GAPS_LEFT * SPREAD))
    placed: list[int] = []
    for index in range(min(guided, steps)):
        step = round_half_up(last * (index / max(1, guided - 1)) ** SPREAD)
        placed.append(max(step, placed[-1] + 1) if placed else 0)
    return tuple(step for step in placed if step <= latest)


def relative_change(now: Tensor, before: Tensor) -> Tensor:
    """How far a held difference was off, ‖now - before‖ / ‖now‖ over the whole batch: a scalar on its device.

    Args:
        now: the difference of a guided step, (B, C, ...).
        before: the one that was held until then, same shape.
    """
    norm = torch.linalg.vector_norm(now).clamp_min(SMALLEST_NORM)
    change: Tensor = torch.linalg.vector_norm(now - before) / norm
    return change


class Gap:
    """Steps from a guided step to the next, set by how far the difference held before it was off.

    The number is on its way from the device when this is made, and is asked for a step later: nothing waits for it.
    """

    def __init__(self, steps: float, change: Tensor | None = None, tolerance: float = 1.0) -> None:
        """
        Args:
            steps: the gap that led to the guided step; what is left of a step counts on.
            change: see `relative_change`; None where nothing was held: the gap stays as it is.
            tolerance: how far the difference may be off when it is taken anew.
        """
        self._steps = float(steps)
        self._tolerance = tolerance
        self._change: Tensor | None = None
        self._arrival: torch.cuda.Event | None = None
        if change is not None and change.device.type == "cuda":
            self._change = torch.empty((), dtype=change.dtype, pin_memory=True).copy_(change, non_blocking=True)
            self._arrival = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._arrival.record(torch.cuda.current_stream(change.device))
        elif change is not None:
            self._change = change

    @property
    def steps(self) -> float:
        """The gap, in steps: such that the difference would be off by the tolerance, going by what it was off by."""
        if self._change is not None:
            if self._arrival is not None:
                self._arrival.synchronize()
            change, self._change = float(self._change), None
            if not math.isnan(change):
                growth = min(MOST_GROWTH, self._tolerance / max(change, SMALLEST_NORM))
                self._steps = max(1.0, self._steps * growth)
        return self._steps
