"""The DeepCache cases of the parity check, on its two image UNets. Needs numpy only, like `parity_cases.py`."""

from __future__ import annotations

from dataclasses import dataclass

from parity_cases import STEPS, Case, Schedule

DEEP_MODELS = ("sd15", "sdxl")
# The published helper's number of each cut, by the node's. It counts layers of levels with two blocks each, and leaves
# the blocks of a cut itself out where the publication (and its MACs) runs them: its 0 has no counterpart here.
HELPER_BRANCH = {0: 1, 1: 3, 2: 4, 3: 6, 4: 7}


@dataclass(frozen=True)
class DeepCase:
    """One run with DeepCache, with T-GATE where the case has a schedule.

    Attributes:
        case: the run.
        interval, branch: the node's settings.
    """

    case: Case
    interval: int = 3
    branch: int = 0

    @property
    def name(self) -> str:
        return self.case.name

    @property
    def restarts(self) -> bool:
        """Whether the published loader's full steps are others than ours: it counts anew from the gate."""
        return self.case.schedule is not None and self.case.schedule.gate % self.interval != 0

    @property
    def published_full_steps(self) -> frozenset[int]:
        """Steps that the published code runs in full: T-GATE's loader also does before the gate and at it."""
        gate = STEPS if self.case.schedule is None else self.case.schedule.gate
        return frozenset({*range(0, gate, self.interval), gate - 1, *range(gate, STEPS, self.interval)})


DEEP_CASES = (
    DeepCase(Case("deep")),
    DeepCase(Case("deep_interval_2", cfg=7.0), interval=2),
    DeepCase(Case("deep_interval_5"), interval=5),
    DeepCase(Case("deep_branch_1"), branch=1),
    DeepCase(Case("deep_branch_2"), interval=4, branch=2),
    DeepCase(Case("deep_branch_3"), branch=3),
    DeepCase(Case("deep_branch_4"), interval=5, branch=4),
    DeepCase(Case("deep_non_square", height=16, width=24)),
    DeepCase(Case("deep_batch_2", batch=2)),
    DeepCase(Case("deep_no_guidance", cfg=1.0), interval=4),
)
DEEP_GATED_CASES = (
    DeepCase(Case("deep_gate_3", Schedule(gate=3))),
    DeepCase(Case("deep_gate_6", Schedule(gate=6))),
    DeepCase(Case("deep_gate_9_branch_1", Schedule(gate=9)), branch=1),
    DeepCase(Case("deep_gate_8_interval_4", Schedule(gate=8)), interval=4, branch=2),
    DeepCase(Case("deep_self_attention_interval_2", Schedule(gate=6, sp_interval=2)), interval=2),
    DeepCase(Case("deep_gate_6_batch_2", Schedule(gate=6), batch=2)),
    DeepCase(Case("deep_gate_6_non_square", Schedule(gate=6), height=16, width=24)),
    # The cadence goes on through the gate here, and starts anew there.
    DeepCase(Case("deep_gate_4", Schedule(gate=4))),
    DeepCase(Case("deep_gate_10", Schedule(gate=10))),
)
