"""The one place that counts what a run did: step by step, and by kind of network call for what that cost."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from .actions import ATTENTION_KINDS, AttentionKind
from .forward import ForwardCall
from .identity import Place
from .technique import BatchPlan


class CallShape(NamedTuple):
    """What sets the cost of one row of a network call.

    Attributes:
        latent: shape of the latent without its batch dimension, (C, H, W) or more dimensions.
        text: shape of the text without its batch dimension, (tokens, width); None where the network takes none.
    """

    latent: tuple[int, ...]
    text: tuple[int, ...] | None


@dataclass
class RowCount:
    """Rows (conds * B) of all network calls of one shape and depth.

    Attributes:
        rows: rows that went through the network.
        plain_rows: rows that would have in the plain run.
        reused: per kind of attention, rows times the share of its attentions that were reused.
    """

    rows: int = 0
    plain_rows: float = 0.0
    reused: defaultdict[AttentionKind, float] = field(default_factory=lambda: defaultdict(float))


@dataclass
class StepCounts:
    """One step.

    Attributes:
        calls: network calls of main passes.
        shallow_calls: those of them that left out the deep blocks.
        guided_passes: passes in which all branches ran that were asked for, and there were two or more.
        cond_only_passes: passes in which one branch stood for two.
        passes: all main passes.
        skipped_passes: passes in which the network did not run.
        reused: attentions that were reused.
        reused_share: per kind of attention, the sum over calls of the share that was reused.
    """

    calls: int = 0
    shallow_calls: int = 0
    guided_passes: int = 0
    cond_only_passes: int = 0
    passes: int = 0
    skipped_passes: int = 0
    reused: int = 0
    reused_share: defaultdict[AttentionKind, float] = field(default_factory=lambda: defaultdict(float))


@dataclass
class RunCounts:
    """A sampling run.

    Attributes:
        steps: number of steps N.
        network_calls: calls of the network, other nodes' included.
        attentions_computed: attentions that ran, one per module and network call.
        auxiliary_passes: passes made by other nodes, left as they are.
        peak_cache_bytes: most bytes of captures alive at once.
        notes: reasons why something was not saved, each once.
        by_step: the main passes, step by step.
        rows: rows of all network calls, by shape and by whether the deep blocks were left out.
        plain_rows: rows that the plain run would have had in the last pass that ran at a place, by shape.
    """

    steps: int = 0
    network_calls: int = 0
    attentions_computed: int = 0
    auxiliary_passes: int = 0
    peak_cache_bytes: int = 0
    notes: list[str] = field(default_factory=list)
    by_step: defaultdict[int, StepCounts] = field(default_factory=lambda: defaultdict(StepCounts))
    rows: defaultdict[tuple[CallShape, bool], RowCount] = field(default_factory=lambda: defaultdict(RowCount))
    plain_rows: dict[Place, defaultdict[CallShape, float]] = field(default_factory=dict)

    @property
    def attentions_reused(self) -> int:
        """Attentions that were reused instead of run."""
        return sum(step.reused for step in self.by_step.values())

    @property
    def shallow_calls(self) -> int:
        """Network calls that left out the deep blocks."""
        return sum(step.shallow_calls for step in self.by_step.values())

    @property
    def skipped_passes(self) -> int:
        """Main passes in which the network did not run."""
        return sum(step.skipped_passes for step in self.by_step.values())

    @property
    def passes(self) -> int:
        """Main passes over the guidance branches."""
        return sum(step.passes for step in self.by_step.values())

    @property
    def guided_passes(self) -> int:
        """Passes in which all branches ran."""
        return sum(step.guided_passes for step in self.by_step.values())

    @property
    def cond_only_passes(self) -> int:
        """Passes in which one of two branches did not run."""
        return sum(step.cond_only_passes for step in self.by_step.values())

    def has_saved_in(self, step: int) -> bool:
        """Whether anything was left out of the attention or guidance of a step, or the whole step."""
        counts = self.by_step.get(step, StepCounts())
        return counts.cond_only_passes + counts.skipped_passes > 0 or any(counts.reused_share.values())

    def note(self, reason: str) -> bool:
        """Keep a reason; returns whether it is new to this run."""
        if reason in self.notes:
            return False
        self.notes.append(reason)
        return True

    def begin_pass(self, plan: BatchPlan) -> None:
        """A main pass is about to run."""
        step = self.by_step[plan.step]
        step.passes += 1
        step.skipped_passes += not plan.runs_network
        place = plan.batch.place
        if plan.runs_network:
            self.plain_rows[place] = defaultdict(float)
        for shape, rows in self.plain_rows.get(place, {}).items():
            self.rows[shape, False].plain_rows += rows
        if plan.branch is None:
            step.guided_passes += plan.batch.is_guided and plan.runs_network
        else:
            step.cond_only_passes += 1

    def take_back(self, plan: BatchPlan) -> None:
        """A pass turned out to be void, and is repeated: of it there remains what the network did."""
        step = self.by_step[plan.step]
        step.passes -= 1
        step.skipped_passes -= not plan.runs_network
        for shape, rows in self.plain_rows.get(plan.batch.place, {}).items():
            self.rows[shape, False].plain_rows -= rows
        if plan.branch is None:
            step.guided_passes -= plan.batch.is_guided and plan.runs_network
        else:
            step.cond_only_passes -= 1

    def end_call(self, call: ForwardCall, shape: CallShape, rows: int) -> None:
        """A network call is over.

        Args:
            call: what it reused and captured.
            shape: of one row of it.
            rows: conds * B.
        """
        self.network_calls += 1
        self.attentions_computed += call.computed
        count = self.rows[shape, call.is_shallow]
        count.rows += rows
        plain_rows = rows * (1.0 if call.plan is None else call.plan.plain_share)
        count.plain_rows += plain_rows
        shares = reused_shares(call.met, call.reused)
        for kind, share in shares.items():
            count.reused[kind] += rows * share
        if call.plan is None:
            return
        self.plain_rows.setdefault(call.plan.batch.place, defaultdict(float))[shape] += plain_rows
        step = self.by_step[call.plan.step]
        step.calls += 1
        step.shallow_calls += call.is_shallow
        step.reused += call.reused.total()
        for kind, share in shares.items():
            step.reused_share[kind] += share


def reused_shares(met: Counter[AttentionKind], reused: Counter[AttentionKind]) -> Mapping[AttentionKind, float]:
    """Per kind of attention that a call had a say in, the share that was reused (0 to 1)."""
    return {kind: reused[kind] / met[kind] for kind in ATTENTION_KINDS if met[kind]}
