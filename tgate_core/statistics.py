"""What a sampling run did and did not do, in numbers."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from .network_call import NetworkCall
from .tally import CallCount, CallShape, StepTally, reused_shares


@dataclass
class RunStatistics:
    """Counts of one sampling run.

    Attributes:
        steps: steps N of the run.
        gate_step: first step m of the fidelity-improving phase.
        shallow_steps: steps in which the deep blocks are to be left out.
        is_guided: whether the run guides one branch by another.
        passes: passes over the guidance branches.
        model_calls: calls of the network.
        shallow_calls: those of them that left out the deep blocks.
        attention_computed: attention modules that ran, one per module and network call.
        attention_skipped: attention modules that were handed a capture instead.
        branches_dropped: evaluations in which one of the two guidance branches did not run.
        auxiliary_passes: passes of other nodes' own, left as they are.
        peak_cache_bytes: most bytes of captures alive at once.
        notes: reasons why something was not saved, each once.
        tallies: the same step by step, for the main passes.
        counts: rows of all network calls, by shape and by whether the deep blocks were left out.
    """

    steps: int = 0
    gate_step: int = 0
    shallow_steps: int = 0
    is_guided: bool = True
    passes: int = 0
    model_calls: int = 0
    shallow_calls: int = 0
    attention_computed: int = 0
    attention_skipped: int = 0
    branches_dropped: int = 0
    auxiliary_passes: int = 0
    peak_cache_bytes: int = 0
    notes: list[str] = field(default_factory=list)
    tallies: defaultdict[int, StepTally] = field(default_factory=lambda: defaultdict(StepTally))
    counts: defaultdict[tuple[CallShape, bool], CallCount] = field(default_factory=lambda: defaultdict(CallCount))

    def note(self, reason: str) -> bool:
        """Keep a reason; returns whether it is new to this run."""
        if reason in self.notes:
            return False
        self.notes.append(reason)
        return True

    def has_saved_in(self, step: int) -> bool:
        """Whether T-GATE left out anything in this step."""
        tally = self.tallies.get(step, StepTally())
        return tally.dropped_passes > 0 or any(tally.reused.values())

    def note_dropped(self, step: int) -> None:
        """A pass of this step runs one branch in place of two."""
        self.branches_dropped += 1
        self.tallies[step].dropped_passes += 1

    def take_back_dropped(self, step: int) -> None:
        """Such a pass was void."""
        self.branches_dropped -= 1
        self.tallies[step].dropped_passes -= 1

    def note_call(self, call: NetworkCall | None, shape: CallShape, rows: int, plain_share: float) -> None:
        """Count a network call.

        Args:
            call: what it handed out and captured; None where everything was computed as usual.
            shape: of one row of it.
            rows: conds * B.
            plain_share: how many conds would have run without T-GATE for each that did.
        """
        count = self.counts[shape, call is not None and call.is_shallow]
        count.rows += rows
        count.plain_rows += rows * plain_share
        if call is None:
            return
        self.attention_skipped += call.skipped.total()
        self.shallow_calls += call.is_shallow
        for kind, share in reused_shares(call).items():
            count.reused[kind] += rows * share

    def summary(self) -> str:
        """One line for the log: what there is to say of T-GATE, of DeepCache, and of both."""
        parts = []
        if self.gate_step < self.steps or not self.shallow_steps:
            attentions = self.attention_computed + self.attention_skipped
            parts += [
                f"gate at step {self.gate_step} of {self.steps}; "
                f"{self.attention_skipped} of {attentions} attentions reused",
                f"guidance dropped in {self.branches_dropped} evaluations",
            ]
        if self.shallow_steps:
            parts.append(f"{self.shallow_calls} of {self.model_calls} network calls left out the deep blocks")
        parts.append(f"cache peak {self.peak_cache_bytes / 2**20:.1f} MiB")
        return "; ".join([", ".join(parts), *self.notes])
