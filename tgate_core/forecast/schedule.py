"""Which steps are predicted from those before them, and on which samplers that holds.

The prediction is that of TaylorSeer (arXiv 2503.06923) of order 1, made of whole predictions instead of features; the
plan is fixed before the run.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..engine.inputs import number, whole_number
from ..engine.steps import growth_in_log_sigma, round_half_up

MOST_STRENGTH = 4
# A step is late where it is this much longer, in log sigma, than the one before it, and in the second half of a run.
LATE_GROWTH = 1.2
# Longest steps, in log sigma, with which a multistep sampler bears predictions: 25 of SD 1.5 do, 20 do not at cfg 7.
LONGEST_STEP = 0.18
# A prediction goes on from two steps that ran; where it is followed as far as that has held before, from three.
LEAST_STEPS, NEEDED_STEPS = 2, 3
# Steps that run lie at this power of their share of the way: the picture is planned early.
GROWTH_POWER = 1.5
# Where the gate comes late they lie closer still at first.
LATE_GATE_POWER = 2.0
_SHARE = " (0.4 = after 40 % of the steps)"


@dataclass(frozen=True)
class ForecastConfig:
    """Settings of the forecast.

    Attributes:
        strength: most steps in a row that are predicted, 1 to 4; a step that runs lies between.
        start: share of the run's steps (0 to 1) that run first.
        end: share of the run's steps (0 to 1) after which all run.
        running: the steps that run; empty: the others decide. Presets alone set it.
        by_preset: whether a preset has placed it: then also with samplers that add noise, and where steps are long.

    Raises:
        ValueError: a value is of another type or out of range; the message names the input and says what to change.
    """

    strength: int = 1
    start: float = 0.12
    end: float = 0.85
    running: tuple[int, ...] = ()
    by_preset: bool = False

    def __post_init__(self) -> None:
        checked: dict[str, float] = {
            "strength": whole_number("strength", self.strength, 1, MOST_STRENGTH, "use 1 for the closest"),
            "start": number("start", self.start, 1, _SHARE),
            "end": number("end", self.end, 1, _SHARE),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def is_off(self) -> bool:
        """Whether no step of any run would be predicted."""
        return self.start >= self.end

    @property
    def most_in_a_row(self) -> int:
        """Most steps in a row that are predicted."""
        return max(longest_gap(self.running) - 1, 1) if self.running else self.strength


def forecast_steps(config: ForecastConfig, sigmas: Sequence[float], needs_full: Collection[int] = ()) -> frozenset[int]:
    """Steps of a run that are predicted: as many as `strength` after each that runs.

    Args:
        config: the settings.
        sigmas: the run's schedule of N + 1 noise levels.
        needs_full: steps that have to run.
    """
    steps = len(sigmas) - 1
    if config.running:
        return frozenset(range(steps)).difference(config.running, needs_full)
    first = max(LEAST_STEPS, round_half_up(config.start * steps))
    last = min(round_half_up(config.end * steps), steps - 1)
    predicted: list[int] = []
    for step in range(first, last):
        in_a_row = predicted[-config.strength :]
        is_enough = len(in_a_row) == config.strength and in_a_row[0] == step - config.strength
        if step not in needs_full and not is_enough:
            predicted.append(step)
    return frozenset(predicted)


def at_growing_gaps(count: int, end: int, power: float) -> list[int]:
    """Steps at `power` of their share of the way to `end`, the first ones without a gap.

    Args:
        count: how many.
        end: the step to which the last gap leads.
        power: 1 for gaps of the same length; the more, the closer they lie at first.
    """
    placed: list[int] = []
    for index in range(count):
        step = round_half_up(end * (index / count) ** power) if index >= NEEDED_STEPS else index
        placed.append(max(step, placed[-1] + 1) if placed else 0)
    return [step for step in placed if step < end]


def longest_gap(placed: Sequence[int]) -> int:
    """The longest way from one step to the next."""
    return max((after - before for before, after in pairwise(placed)), default=1)


def has_long_steps(sigmas: Sequence[float]) -> bool:
    """Whether half of a run's steps are too long for predictions with a multistep sampler.

    Args:
        sigmas: the run's schedule of N + 1 noise levels.
    """
    lengths = [math.log(now / after) for now, after in pairwise(sigmas) if now > after > 0]
    return bool(lengths) and statistics.median(lengths) > LONGEST_STEP


def first_late_step(sigmas: Sequence[float]) -> int:
    """The first late step of a run, its last one at the latest.

    A multistep sampler extrapolates from its last predictions by the ratio of the last steps in log sigma. Where that
    grows, what guidance makes of the errors of two predicted branches spoils the picture.

    Args:
        sigmas: the run's schedule of N + 1 noise levels.
    """
    steps = len(sigmas) - 1
    late = (step for step in range(max(1, steps // 2), steps - 1) if growth_in_log_sigma(sigmas, step) > LATE_GROWTH)
    return next(late, steps - 1)
