"""Figures of a row from its raw runs: ratios are between steps that ran close to each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import mean, median

from .records import Oracle, Row, RunRecord, Steps


@dataclass(frozen=True)
class Spread:
    """A number that was measured several times."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        """Median, least and most of the values that are there; None where there is none."""
        known = [value for value in values if value is not None]
        return cls(median(known), min(known), max(known)) if known else None


@dataclass(frozen=True)
class Figures:
    """A row of the table; None for what was not measured or does not apply.

    Attributes:
        seconds: of a run.
        ratio: of a run to the plain run.
        processor_ratio: the same of the processor's seconds.
        gated_step: seconds of a gated step.
        to_oracle: of a gated step to the oracle's, median of its steps.
        processor_to_oracle: the same of the processor's seconds.
        full_steps: of the steps that save nothing to the same steps of the plain run.
        branches: evaluations of the network, one a guidance branch.
        cache_bytes: most bytes of captures.
        peak_bytes: most memory taken at once, beside the weights.
    """

    seconds: Spread | None
    ratio: Spread | None
    processor_ratio: Spread | None
    gated_step: Spread | None
    to_oracle: Spread | None
    processor_to_oracle: Spread | None
    full_steps: Spread | None
    branches: Spread | None
    cache_bytes: int | None
    peak_bytes: int | None


def figures(row: Row) -> Figures:
    """The figures of a row.

    Args:
        row: one of a measurement's rows.
    """
    oracle = row.oracle
    beside_plain = list(zip(row.runs, row.plain_steps, strict=False))
    beside_oracle = list(zip(row.runs, row.oracle_steps, strict=False))
    return Figures(
        seconds=Spread.of(run.seconds for run in row.runs),
        ratio=Spread.of(_ratio(run, base, _seconds) for run, base in beside_plain),
        processor_ratio=Spread.of(_ratio(run, base, _processor_seconds) for run, base in beside_plain),
        gated_step=Spread.of(gated_step(run, oracle) for run in row.runs),
        to_oracle=Spread.of(_median_ratio(run, ideal, oracle, _seconds) for run, ideal in beside_oracle),
        processor_to_oracle=Spread.of(
            _median_ratio(run, ideal, oracle, _processor_seconds) for run, ideal in beside_oracle
        ),
        full_steps=Spread.of(full_steps(run, base) for run, base in beside_plain if oracle is not None),
        branches=Spread.of(sum(run.branches) for run in row.runs),
        cache_bytes=_most(run.cache_bytes for run in row.runs),
        peak_bytes=row.peak_bytes,
    )


def gated_step(run: RunRecord, oracle: Oracle | None) -> float | None:
    """Median seconds of the steps that do what the oracle does; None where there are none."""
    steps = run.steps_like(oracle) if oracle is not None else []
    return median(run.step_seconds[step] for step in steps) if steps else None


def full_steps(run: RunRecord, plain: Steps) -> float | None:
    """Seconds of the steps that save nothing, as a share of the plain model's same steps.

    Together and not step by step, so that the one step that captures counts.
    """
    steps = run.full_steps()
    if not steps:
        return None
    return sum(run.step_seconds[step] for step in steps) / sum(plain[step].seconds for step in steps)


# Of each step of a run; None where that was not measured.
_Times = Callable[[RunRecord], Sequence[float] | None]


def _seconds(run: RunRecord) -> Sequence[float]:
    return run.step_seconds


def _processor_seconds(run: RunRecord) -> Sequence[float] | None:
    return run.step_processor_seconds


def _ratio(run: RunRecord, plain: Steps, times: _Times) -> float | None:
    """Of the whole run."""
    ours, theirs = times(run), _measured(plain, times)
    return sum(ours) / sum(theirs.values()) if ours is not None and theirs else None


def _median_ratio(run: RunRecord, ideal: Steps, oracle: Oracle | None, times: _Times) -> float | None:
    """Of our gated steps to the oracle's.

    Each is held against the mean of the oracle's steps before and after it, so that a machine that gets slower or
    faster meanwhile tips neither side.
    """
    steps = run.steps_like(oracle) if oracle is not None else []
    ours, theirs = times(run), _measured(ideal, times)
    if ours is None or not theirs:
        return None
    around = {step: [theirs[near] for near in (step - 1, step) if near in theirs] for step in steps}
    ratios = [ours[step] / mean(near) for step, near in around.items() if near]
    return median(ratios) if ratios else None


def _measured(steps: Steps, times: _Times) -> dict[int, float]:
    """Of each step by number; empty where it was not measured."""
    found = {number: times(run) for number, run in steps.items()}
    return {number: sum(of) for number, of in found.items() if of is not None}


def _most(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)
