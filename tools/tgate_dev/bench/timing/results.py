"""What was measured: runs, the steps interleaved with them, the figures of each row, and the tables made of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import mean, median
from typing import Any, NamedTuple

MIB = 2**20


class Oracle(NamedTuple):
    """Lower bound of a gated step: this many guidance branches, with these kinds of attention removed."""

    kinds: frozenset[str]
    branches: float


@dataclass
class RunRecord:
    """One sampling run."""

    step_seconds: list[float] = field(default_factory=list)  # model time, guidance included
    branches: list[float] = field(default_factory=list)  # guidance branches evaluated in each step
    reused: list[list[str]] | None = None  # kinds that T-GATE's schedule reuses in each step; None without T-GATE
    cache_bytes: int | None = None  # peak size of the captures; None without T-GATE
    notes: list[str] = field(default_factory=list)  # for the reader

    def steps_like(self, oracle: Oracle | None) -> list[int]:
        """Steps that do what the oracle does, except the first, which pays for allocation and kernel selection.

        Without T-GATE the branches alone tell.
        """
        if oracle is None:
            return []
        steps = [step for step, branches in enumerate(self.branches) if step > 0 and branches == oracle.branches]
        return [step for step in steps if self.reused is None or oracle.kinds == {*self.reused[step]}]

    def full_steps(self) -> list[int]:
        """Steps that save nothing, except the first."""
        return self.steps_like(Oracle(frozenset(), max(self.branches)))


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
    """One way of sampling."""

    name: str  # as the table calls it
    patch: Callable[[Any], Any] = field(repr=False)  # applies it to the plain model (the host's ModelPatcher)
    oracle: Oracle | None = None  # lower bound of its gated steps
    is_foreign: bool = False  # whether it belongs to another pack
    peak_bytes: int | None = None  # peak memory of a run, without the weights
    syncs: float | None = None  # times that the processor waits for the card in a step; None on the CPU
    rounds: list[Round] = field(default_factory=list)

    def figures(self) -> dict[str, Spread | None]:
        """Those of `COLUMNS`; None for what does not apply."""
        return {name: Spread.of(column.of(self, one) for one in self.rounds) for name, column in COLUMNS.items()}


class Column(NamedTuple):
    """A column of the table: how it shows the median, in which unit, of what a round says."""

    heading: str
    form: str
    unit: int
    of: Callable[[Row, Round], float | None]


COLUMNS = {
    "seconds": Column("s a run", "{:.1f}", 1, lambda _, one: sum(one.run.step_seconds)),
    "to_plain": Column("× plain", "{:.3f}", 1, lambda _, one: one.to_plain()),
    "to_oracle": Column("gated step, × oracle", "{:.3f}", 1, lambda _, one: one.to_oracle()),
    "full_to_plain": Column("full steps, × plain", "{:.3f}", 1, lambda row, one: row.oracle and one.full_to_plain()),
    "cache_bytes": Column("captures, MiB", "{:.1f}", MIB, lambda _, one: one.run.cache_bytes),
    "peak_bytes": Column("peak, MiB", "{:.1f}", MIB, lambda row, _: row.peak_bytes),
    "syncs": Column("waits a step", "{:.1f}", 1, lambda row, _: row.syncs),
}


def as_markdown(settings: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """Medians over the rounds, without columns that are empty, followed by the notes of the runs."""
    told = {row.name: row.figures() for row in rows}
    columns = {name: column for name, column in COLUMNS.items() if any(figures[name] for figures in told.values())}
    lines = [[settings["title"], *(column.heading for column in columns.values())], ["---", *["---:"] * len(columns)]]
    for name, figures in told.items():
        shown = ((figures[key], column) for key, column in columns.items())
        cells = ["-" if figure is None else column.form.format(figure.median / column.unit) for figure, column in shown]
        lines.append([name, *cells])
    notes = {f"\n{row.name}: {note}\n": None for row in rows for one in row.rounds for note in one.run.notes}
    return "".join([*(f"| {' | '.join(cells)} |\n" for cells in lines), *notes])


def as_json(settings: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """All raw numbers, and the figures with their spread."""
    told = []
    for row in rows:
        figures = {name: spread and spread._asdict() for name, spread in row.figures().items()}
        told.append({"name": row.name, "figures": figures, "rounds": [asdict(one) for one in row.rounds]})
    return json.dumps({"settings": dict(settings), "rows": told}, indent=1, ensure_ascii=False) + "\n"
