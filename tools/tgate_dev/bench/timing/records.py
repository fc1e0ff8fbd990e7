"""What one run gives, raw, and what a row of the table is made of. Nothing here needs torch or the host."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Oracle:
    """What a gated step costs at the least: the network with attentions taken out, nothing put in their place.

    Attributes:
        kinds: kinds of attention that are taken out, by the pack's names (attn1 is self, attn2 cross-attention).
        branches: guidance branches that it runs.
    """

    kinds: frozenset[str]
    branches: int

    @property
    def name(self) -> str:
        """For people."""
        words = {"attn1": "self-attention", "attn2": "cross-attention"}
        taken_out = " and ".join(words[kind] for kind in sorted(self.kinds))
        branches = "one branch" if self.branches == 1 else f"{self.branches} branches"
        return f"{branches}, without {taken_out}" if taken_out else branches


@dataclass
class RunRecord:
    """One sampling run.

    Attributes:
        step_seconds: of all that each step asks of the model, guidance included.
        branches: guidance branches that the network ran in each step.
        reused: in each step, the kinds of attention that T-GATE's schedule reuses; None without T-GATE.
        step_processor_seconds: of all threads, of each step; None on a graphics card.
        cache_bytes: most bytes of captures held at once; None without T-GATE.
        peak_bytes: most memory that it took on a graphics card, beside what was there before; None on the CPU, and with
            others in between its steps.
        is_finite: whether the result has neither infinities nor NaN.
        notes: what T-GATE has to say about the run.
    """

    step_seconds: list[float]
    branches: list[float]
    reused: list[list[str]] | None = None
    step_processor_seconds: list[float] | None = None
    cache_bytes: int | None = None
    peak_bytes: int | None = None
    is_finite: bool = True
    notes: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Of all its steps."""
        return sum(self.step_seconds)

    @property
    def processor_seconds(self) -> float | None:
        """The same of the processor's."""
        return None if self.step_processor_seconds is None else sum(self.step_processor_seconds)

    def steps_like(self, oracle: Oracle) -> list[int]:
        """Steps that do what the oracle does; never the first, in which memory is taken and kernels are chosen."""
        return [
            step
            for step in range(1, len(self.step_seconds))
            if self.branches[step] == oracle.branches and self._reused_at(step) in (None, oracle.kinds)
        ]

    def full_steps(self) -> list[int]:
        """Steps that save nothing, but for the first."""
        return [
            step
            for step in range(1, len(self.step_seconds))
            if self.branches[step] >= max(self.branches) and not self._reused_at(step)
        ]

    def _reused_at(self, step: int) -> frozenset[str] | None:
        return None if self.reused is None else frozenset(self.reused[step])


# Runs of a single step each, by the number that the step has in the whole run.
Steps = dict[int, RunRecord]


@dataclass
class Row:
    """One way of sampling, and its runs.

    Attributes:
        name: as the table calls it.
        patch: makes it of the plain model (the host's ModelPatcher).
        oracle: what its gated steps are held against; None where nothing of that kind fits.
        is_foreign: whether it is another pack's: then it has a model of its own, and may fail.
        failure: why it was given up; None while it was not.
        peak_bytes: most memory of a run, beside the weights, found in a run of its own.
        runs: one record a round.
        plain_steps: for each run, the plain model's same steps by number; each ran before the row's next step.
        oracle_steps: the oracle's, likewise, for the steps that do the same.
    """

    name: str
    patch: Callable[[Any], Any] = field(repr=False)
    oracle: Oracle | None = None
    is_foreign: bool = False
    failure: str | None = None
    peak_bytes: int | None = None
    runs: list[RunRecord] = field(default_factory=list)
    plain_steps: list[Steps] = field(default_factory=list)
    oracle_steps: list[Steps] = field(default_factory=list)


@dataclass
class Results:
    """Everything that was measured.

    Attributes:
        settings: what was run on what, by the names that the report uses.
        remarks: what the reader has to know.
        rows: the rows, the plain one first.
    """

    settings: dict[str, Any]
    remarks: list[str]
    rows: list[Row]

    @property
    def title(self) -> str:
        """One line that says what was measured."""
        s = self.settings
        size = f"{s['pixels']} × {s['pixels']} pixels"
        batch = "" if s["batch"] == 1 else f", batch {s['batch']}"
        return f"{s['model']}, {size}{batch}, {s['steps']} steps, {s['dtype']}, {s['device_name']}"
