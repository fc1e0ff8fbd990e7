"""Rows of the time table: their runs, the steps interleaved with them, and the resulting figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from statistics import mean, median
from typing import Any, NamedTuple


class Oracle(NamedTuple):
    """Lower bound of a gated step: this many guidance branches, with these kinds of attention removed."""

    kinds: frozenset[str]
    branches: int


@dataclass
class RunRecord:
    """One sampling run.

    Attributes:
        step_seconds: model time of each step, guidance included.
        branches: guidance branches evaluated in each step.
        reused: kinds of attention that T-GATE's schedule reuses in each step; None without T-GATE.
        cache_bytes: peak size of the captures; None without T-GATE.
        notes: remarks for the reader.
    """

    step_seconds: list[float]
    branches: list[float]
    reused: list[list[str]] | None = None
    cache_bytes: int | None = None
    notes: list[str] = field(default_factory=list)

    def steps_like(self, oracle: Oracle | None) -> list[int]:
        """Steps that do what the oracle does, except the first, which pays for allocation and kernel selection."""
        return [] if oracle is None else self._steps(oracle.branches, oracle.kinds)

    def full_steps(self) -> list[int]:
        """Steps that save nothing, except the first."""
        return self._steps(max(self.branches), frozenset())

    def _steps(self, branches: float, kinds: frozenset[str]) -> list[int]:
        reused = [kinds if self.reused is None else frozenset(self.reused[step]) for step in range(len(self.branches))]
        return [s for s in range(1, len(self.branches)) if self.branches[s] == branches and reused[s] == kinds]


@dataclass
class Round:
    """A run of a row, and seconds of the plain and oracle steps interleaved with its steps."""

    run: RunRecord
    plain: dict[int, float] = field(default_factory=dict)
    oracle: dict[int, float] = field(default_factory=dict)

    def to_plain(self) -> float:
        """Run time relative to the plain model."""
        return sum(self.run.step_seconds) / sum(self.plain.values())

    def full_to_plain(self) -> float | None:
        """Time of the full steps relative to the plain model; summed, so that the capturing step counts."""
        steps = self.run.full_steps()
        return sum(self.run.step_seconds[s] for s in steps) / sum(self.plain[s] for s in steps) if steps else None

    def to_oracle(self) -> float | None:
        """Median time of a gated step relative to the oracle.

        Each is compared with the mean of the oracle's steps before and after it, so that drift of the machine's speed
        cancels out.
        """
        around = {step: [self.oracle[s] for s in (step - 1, step) if s in self.oracle] for step in self.oracle}
        ratios = [self.run.step_seconds[step] / mean(seconds) for step, seconds in around.items()]
        return median(ratios) if ratios else None


class Spread(NamedTuple):
    """Repeated measurements of one number."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        """Median, minimum and maximum of the values that are not None; None if there are none."""
        known = [value for value in values if value is not None]
        return cls(median(known), min(known), max(known)) if known else None


@dataclass
class Row:
    """One way of sampling.

    Attributes:
        name: as the table calls it.
        patch: applies it to the plain model (the host's ModelPatcher).
        oracle: lower bound of its gated steps; None if there is none.
        is_foreign: whether it belongs to another pack.
        peak_bytes: peak memory of a run, without the weights.
        rounds: its runs.
    """

    name: str
    patch: Callable[[Any], Any] = field(repr=False)
    oracle: Oracle | None = None
    is_foreign: bool = False
    peak_bytes: int | None = None
    rounds: list[Round] = field(default_factory=list)

    def figures(self) -> dict[str, Spread | None]:
        """The columns of the table, in order; None for what does not apply."""
        return {
            "seconds": Spread.of(sum(one.run.step_seconds) for one in self.rounds),
            "to_plain": Spread.of(one.to_plain() for one in self.rounds),
            "to_oracle": Spread.of(one.to_oracle() for one in self.rounds),
            "full_to_plain": Spread.of(one.full_to_plain() for one in self.rounds if self.oracle is not None),
            "cache_bytes": Spread.of(one.run.cache_bytes for one in self.rounds),
            "peak_bytes": Spread.of([self.peak_bytes]),
        }
