"""Figures of a row from its raw runs: ratios are taken within a round, between runs that went on in turns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from .records import Oracle, Results, Row, RunRecord


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
        to_oracle: of a gated step to the oracle's.
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


def figures(row: Row, results: Results) -> Figures:
    """The figures of a row.

    Args:
        row: one of `results.rows`.
        results: everything that was measured; its first row is the plain one.
    """
    plain = row.plain_runs or results.rows[0].runs
    oracle = row.oracle
    beside_plain = list(zip(row.runs, plain, strict=False))
    beside_oracle = list(zip(row.runs, row.oracle_runs, strict=False))
    return Figures(
        seconds=Spread.of(run.seconds for run in row.runs),
        ratio=Spread.of(run.seconds / base.seconds for run, base in beside_plain),
        processor_ratio=Spread.of(_processor_ratio(run, base) for run, base in beside_plain),
        gated_step=Spread.of(gated_step(run, oracle) for run in row.runs),
        to_oracle=Spread.of(_to_oracle(run, ideal, oracle) for run, ideal in beside_oracle),
        processor_to_oracle=Spread.of(_processor_to_oracle(run, ideal, oracle) for run, ideal in beside_oracle),
        full_steps=Spread.of(full_steps(run, base) for run, base in beside_plain if oracle is not None),
        branches=Spread.of(sum(run.branches) for run in row.runs),
        cache_bytes=_most(run.cache_bytes for run in row.runs),
        peak_bytes=row.peak_bytes,
    )


def gated_step(run: RunRecord, oracle: Oracle | None) -> float | None:
    """Median seconds of the steps that do what the oracle does; None where there are none."""
    steps = run.steps_like(oracle) if oracle is not None else []
    return median(run.step_seconds[step] for step in steps) if steps else None


def full_steps(run: RunRecord, plain: RunRecord) -> float | None:
    """Seconds of the steps that save nothing, as a share of the same steps of the plain run.

    Together and not step by step, so that the one step that captures counts.
    """
    steps = run.full_steps()
    if not steps:
        return None
    return _sum(run.step_seconds, steps) / _sum(plain.step_seconds, steps)


def _processor_ratio(run: RunRecord, plain: RunRecord) -> float | None:
    if run.processor_seconds is None or plain.processor_seconds is None:
        return None
    return run.processor_seconds / plain.processor_seconds


def _to_oracle(run: RunRecord, ideal: RunRecord, oracle: Oracle | None) -> float | None:
    return _median_ratio(run.step_seconds, ideal.step_seconds, run, oracle)


def _processor_to_oracle(run: RunRecord, ideal: RunRecord, oracle: Oracle | None) -> float | None:
    if run.step_processor_seconds is None or ideal.step_processor_seconds is None:
        return None
    return _median_ratio(run.step_processor_seconds, ideal.step_processor_seconds, run, oracle)


def _median_ratio(
    ours: Sequence[float], theirs: Sequence[float], run: RunRecord, oracle: Oracle | None
) -> float | None:
    """Of our gated steps to the oracle's of the same number, which came right after each."""
    steps = run.steps_like(oracle) if oracle is not None else []
    return median(ours[step] / theirs[step] for step in steps) if steps else None


def _sum(seconds: Sequence[float], steps: Sequence[int]) -> float:
    return sum(seconds[step] for step in steps)


def _most(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)
