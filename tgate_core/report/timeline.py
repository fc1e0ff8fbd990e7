"""What the steps of a run do, for people to see: the strip under a node, and the picture of a report."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ..engine.actions import CROSS_ATTENTION, SELF_ATTENTION, Action
from ..engine.counts import StepCounts
from ..gate.config import GateConfig
from ..gate.guidance import MODES
from ..gate.schedule import Phase, Schedule, StepPlan

# Names that go over the wire and into pictures.
PHASE_NAMES: Mapping[Phase, str] = {
    Phase.PLANNING: "planning",
    Phase.FIDELITY: "fidelity",
    Phase.REFRESH: "refresh",
    Phase.PROTECTED: "protected",
}


@dataclass(frozen=True)
class StepCell:
    """One step.

    Attributes:
        phase: part of the run.
        self_reused: share of its self-attentions that are reused, 0 to 1.
        cross_reused: share of its cross-attentions that are reused, 0 to 1.
        is_guided: whether both guidance branches run.
        is_shallow: whether the deep blocks are left out (DeepCache).
        is_predicted: whether the network does not run, and its predictions are made of those before (Forecast).
        has_run: whether the sampler came to it.
    """

    phase: Phase
    self_reused: float
    cross_reused: float
    is_guided: bool
    is_shallow: bool = False
    is_predicted: bool = False
    has_run: bool = True

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "phase": PHASE_NAMES[self.phase],
            "self_reused": round(self.self_reused, 3),
            "cross_reused": round(self.cross_reused, 3),
            "guided": self.is_guided,
            "shallow": self.is_shallow,
            "predicted": self.is_predicted,
            "ran": self.has_run,
        }


def as_groups(cells: Iterable[StepCell]) -> list[dict[str, Any]]:
    """Steps as the editor is told of them: equal ones in a row are one, with their `count`."""
    return [{**cell.as_json(), "count": sum(1 for _ in same)} for cell, same in groupby(cells)]


def planned_cells(
    config: GateConfig,
    schedule: Schedule,
    is_guided: bool,
    shallow: Collection[int] = frozenset(),
    predicted: Collection[int] = frozenset(),
) -> tuple[StepCell, ...]:
    """The cells of a run that goes as laid out.

    Args:
        config: the settings.
        schedule: the run's steps, see `build_schedule`.
        is_guided: whether the run uses classifier-free guidance (cfg other than 1).
        shallow: steps in which the deep blocks are left out.
        predicted: steps in which the network does not run.
    """
    drops_a_branch = MODES[config.guidance].drops_a_branch

    def cell(step: int, plan: StepPlan) -> StepCell:
        return StepCell(
            phase=plan.phase,
            self_reused=float(plan.self_attention is Action.REUSE),
            cross_reused=float(plan.cross_attention is Action.REUSE),
            is_guided=is_guided and not (drops_a_branch and plan.phase is Phase.FIDELITY),
            is_shallow=step in shallow,
            is_predicted=step in predicted,
        )

    return tuple(cell(step, plan) for step, plan in enumerate(schedule.steps))


def full_steps(phases: Sequence[Phase], is_guided: bool) -> tuple[StepCell, ...]:
    """Steps of a run that was left as it is."""
    return tuple(StepCell(phase, self_reused=0.0, cross_reused=0.0, is_guided=is_guided) for phase in phases)


def executed_steps(phases: Sequence[Phase], by_step: Mapping[int, StepCounts]) -> tuple[StepCell, ...]:
    """What the steps of a run did; some samplers leave steps out, and an interrupted run never came to its last.

    Args:
        phases: the phase of each step.
        by_step: counts of the steps that were evaluated.
    """

    def cell(step: int, phase: Phase) -> StepCell:
        counts = by_step.get(step, StepCounts())
        calls = max(1, counts.calls)
        return StepCell(
            phase=phase,
            self_reused=counts.reused_share[SELF_ATTENTION] / calls,
            cross_reused=counts.reused_share[CROSS_ATTENTION] / calls,
            is_guided=counts.guided_passes > counts.cond_only_passes,
            is_shallow=counts.shallow_calls * 2 > calls,
            is_predicted=counts.skipped_passes * 2 > counts.passes,
            has_run=counts.calls + counts.skipped_passes > 0,
        )

    return tuple(cell(step, phase) for step, phase in enumerate(phases))
