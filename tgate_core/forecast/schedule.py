"""Which steps are predicted from those before them, and on which samplers that holds.

The prediction is that of TaylorSeer (arXiv 2503.06923) of order 1, made of whole predictions instead of features; the
plan is fixed before the run. A preset says how many steps run: they are spread by how long steps are in log sigma, as a
prediction leads the farther astray the more noise goes in its step.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..engine.inputs import MAX_STEPS, number, whole_number
from ..engine.steps import growth_in_log_sigma, round_half_up

MOST_STRENGTH = 4
# A step is late where it is this much longer, in log sigma, than the one before it, and in the second half of a run.
LATE_GROWTH = 1.2
# Longest steps, in log sigma, with which a multistep sampler bears predictions: 25 of SD 1.5 do, 20 do not at cfg 7.
LONGEST_STEP = 0.18
# A prediction of order 1 goes on from two steps that ran; where it is followed as far as that has held, from three.
LEAST_STEPS, NEEDED_STEPS = 2, 3
# Where the number of steps that run is given: a step weighs the cube root of its length in log sigma, up to here.
WEIGHT_POWER, LONGEST_WEIGHED = 1 / 3, 1.0
# A gap grows from the shortest of so many before it.
GROWING_FROM = (2, 1)
# Halvings of the weight of a gap until it is the smallest that fits.
HALVINGS = 50
_SHARE = " (0.4 = after 40 % of the steps)"


@dataclass(frozen=True)
class ForecastConfig:
    """Settings of the forecast.

    Attributes:
        strength: most steps in a row that are predicted, 1 to 4; a step that runs lies between.
        start: share of the run's steps (0 to 1) that run first.
        end: share of the run's steps (0 to 1) after which all run.
        running: how many of the run's steps run, spread over those before `end`; 0: `start` and `strength` decide.
            Presets alone set it.
        is_even: where `running` is given: whether all steps weigh the same, and not by their length in log sigma.
        by_preset: whether a preset has placed it: then also with samplers that add noise, and where steps are long.

    Raises:
        ValueError: a value is of another type or out of range; the message names the input and says what to change.
    """

    strength: int = 1
    start: float = 0.12
    end: float = 0.85
    running: int = 0
    is_even: bool = False
    by_preset: bool = False

    def __post_init__(self) -> None:
        checked: dict[str, float] = {
            "strength": whole_number("strength", self.strength, 1, MOST_STRENGTH, "use 1 for the closest"),
            "start": number("start", self.start, 1, _SHARE),
            "end": number("end", self.end, 1, _SHARE),
            "running": whole_number("running", self.running, 0, MAX_STEPS, "use 0 to go by start and end"),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def is_off(self) -> bool:
        """Whether no step of any run would be predicted."""
        return self.start >= self.end


def forecast_steps(config: ForecastConfig, sigmas: Sequence[float], needs_full: Collection[int] = ()) -> frozenset[int]:
    """Steps of a run that are predicted: as many as `strength` after each that runs.

    Args:
        config: the settings.
        sigmas: the run's schedule of N + 1 noise levels.
        needs_full: steps that have to run.
    """
    steps = len(sigmas) - 1
    if config.running:
        weights = [1.0 if config.is_even else _weight(now, after) for now, after in pairwise(sigmas[:steps])]
        run = spread(weights, config.running, config.strength, round_half_up(config.end * steps))
        return frozenset(range(steps)) - run - set(needs_full)
    first = max(LEAST_STEPS, round_half_up(config.start * steps))
    last = min(round_half_up(config.end * steps), steps - 1)
    predicted: list[int] = []
    for step in range(first, last):
        in_a_row = predicted[-config.strength :]
        is_enough = len(in_a_row) == config.strength and in_a_row[0] == step - config.strength
        if step not in needs_full and not is_enough:
            predicted.append(step)
    return frozenset(predicted)


def spread(weights: Sequence[float], running: int, strength: int, end: int) -> frozenset[int]:
    """Steps that run: the first and the last ones, and others at gaps of about the same weight.

    A gap is at most a step longer than each of the two before it, or, where that leaves too many, than the one before
    it: no prediction reaches farther than the steps that it is made of lie apart. What is left over goes to the end.

    Args:
        weights: of all steps but the last.
        running: most steps that run; more do where gaps cannot be that long.
        strength: most steps in a row that do not.
        end: the step from which on all run.
    """
    low, high = 0.0, sum(weights)
    growing_from = next(
        (gaps for gaps in GROWING_FROM if len(_at_gaps_of(high, weights, strength, end, gaps)) <= running), 1
    )
    fitting = _at_gaps_of(high, weights, strength, end, growing_from)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        placed = _at_gaps_of(middle, weights, strength, end, growing_from)
        if len(placed) <= running:
            fitting, high = placed, middle
        else:
            low = middle
    others = [step for step in range(len(weights)) if step not in fitting]
    spare = running - len(fitting)
    return frozenset([*fitting, *others[len(others) - spare :]] if spare > 0 else fitting)


def _weight(sigma: float, after: float) -> float:
    length = math.log(sigma / after) if sigma > after > 0 else LONGEST_WEIGHED
    return float(min(length, LONGEST_WEIGHED) ** WEIGHT_POWER)


def _at_gaps_of(weight: float, weights: Sequence[float], strength: int, end: int, growing_from: int) -> list[int]:
    """Steps that run where gaps have this weight, or are as long as they may be."""
    last, since = len(weights), 0.0
    placed = list(range(min(NEEDED_STEPS, last + 1)))
    longest = 1
    for step in range(len(placed), last + 1):
        since += weights[step - 1]
        if since >= weight or step - placed[-1] > longest or step >= end or step == last:
            since = 0.0
            placed.append(step)
            longest = min(strength, *(after - before for before, after in pairwise(placed[-1 - growing_from :])))
    return placed


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
