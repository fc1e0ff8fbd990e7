"""Which step of a sampling run a model call belongs to, read from its sigma alone.

Samplers do not say which step they are in, and many call the model between the sigmas of the schedule or ahead of the
current one. A pure function of sigma gives the same answer however often and in whatever order a sampler asks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

# A schedule goes through float32 and back, and dpmpp_2s rounds its inner sigma onto the next one: both stay far below
# these, while true sub-steps stay far above.
RELATIVE_TOLERANCE = 1e-5
SPACING_TOLERANCE = 1e-3


def step_tolerance(sigmas: Sequence[float], step: int) -> float:
    """How far (in sigma) a call may lie above `sigmas[step]` and still belong to `step`.

    A step that rises (a restart) says nothing about how close its neighbours' calls may come.
    """
    spacing = max(sigmas[step] - sigmas[step + 1], 0.0)
    return max(RELATIVE_TOLERANCE * abs(sigmas[step]), SPACING_TOLERANCE * spacing)


def _reaches(sigmas: Sequence[float]) -> tuple[float, ...]:
    """The highest sigma that belongs to each step, N values."""
    return tuple(sigmas[step] + step_tolerance(sigmas, step) for step in range(len(sigmas) - 1))


def _latest_within(sigma: float, reaches: Sequence[float], first: int, last: int) -> int:
    for step in range(last, first, -1):
        if reaches[step] >= sigma:
            return step
    return first


class StepTracker:
    """Steps of one run. Schedules that rise again (restarts) need to know where the run is, so it keeps a pointer."""

    def __init__(self, sigmas: Sequence[float]) -> None:
        """
        Args:
            sigmas: N + 1 noise levels for N ≥ 1 steps.
        """
        self.sigmas = tuple(sigmas)
        # How high a call may lie and still belong to each step: asked for in every evaluation.
        self._reaches = _reaches(self.sigmas)
        self._is_decreasing = all(now > later for now, later in zip(self.sigmas, self.sigmas[1:], strict=False))
        self._pointer = 0

    @property
    def steps(self) -> int:
        """Number of steps N of the run."""
        return len(self.sigmas) - 1

    def step_of(self, sigma: float) -> int:
        """The 0-based step that a model call at `sigma` belongs to."""
        if self._is_decreasing:
            return _latest_within(sigma, self._reaches, 0, self.steps - 1)
        self._pointer = self._step_near_pointer(sigma)
        return self._pointer

    def _step_near_pointer(self, sigma: float) -> int:
        # The nearest first, forward before backward: a sampler that looks ahead must not be led past a restart.
        for step in sorted(range(self.steps), key=lambda step: (abs(step - self._pointer), step < self._pointer)):
            if abs(self.sigmas[step] - sigma) <= step_tolerance(self.sigmas, step):
                return step
        first, last = self._descent_around(self._pointer)
        return _latest_within(sigma, self._reaches, first, last)

    def _descent_around(self, step: int) -> tuple[int, int]:
        """First and last step of the decreasing stretch that contains `step`."""
        first = step
        while first > 0 and self.sigmas[first - 1] > self.sigmas[first]:
            first -= 1
        last = step
        while last < self.steps - 1 and self.sigmas[last] > self.sigmas[last + 1]:
            last += 1
        return first, last


def growth_in_log_sigma(sigmas: Sequence[float], step: int) -> float:
    """How much longer a step is, in log sigma, than the one before it; infinite for one that ends at 0.

    A multistep sampler extrapolates by this ratio.

    Args:
        sigmas: the run's schedule of N + 1 noise levels.
        step: the step, 0 to N - 1.
    """
    if sigmas[step + 1] <= 0:
        return math.inf
    if step < 1 or not 0 < sigmas[step] < sigmas[step - 1]:
        return 1.0
    return math.log(sigmas[step] / sigmas[step + 1]) / math.log(sigmas[step - 1] / sigmas[step])


def round_half_up(value: float) -> int:
    """Nearest integer, halves up: 2.5 is 3, where Python's own `round` gives 2."""
    return int(value + 0.5)
