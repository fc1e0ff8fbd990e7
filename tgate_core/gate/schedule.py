"""What each step of a run computes, captures and reuses: the published schedule, with refreshed steps where asked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from ..engine.actions import (
    CROSS_ATTENTION,
    SELF_ATTENTION,
    Action,
    AttentionKind,
    drop_idle_captures,
)
from ..engine.steps import round_half_up, step_tolerance
from .config import GateConfig
from .refresh import growing_gaps, last_refresh_step, spread_steps


class Phase(Enum):
    """The part of a run that a step belongs to."""

    PLANNING = "semantics-planning"
    FIDELITY = "fidelity-improving"
    REFRESH = "refreshed"
    PROTECTED = "protected"


@dataclass(frozen=True)
class StepPlan:
    """One step: its phase, and what its self- and cross-attention do."""

    phase: Phase
    self_attention: Action
    cross_attention: Action

    @property
    def reuses(self) -> bool:
        """Whether any attention is reused."""
        return Action.REUSE in (self.self_attention, self.cross_attention)

    def action(self, kind: AttentionKind) -> Action:
        """The action for one kind of attention."""
        return self.self_attention if kind == SELF_ATTENTION else self.cross_attention


@dataclass(frozen=True)
class Schedule:
    """All steps of one run.

    Attributes:
        gate_step: first step m of the fidelity phase.
        steps: one plan a step.
        live: per kind and step, whether a capture that exists when the step begins is still going to be reused.
    """

    gate_step: int
    steps: tuple[StepPlan, ...]
    live: dict[AttentionKind, tuple[bool, ...]]

    @property
    def has_gate(self) -> bool:
        """Whether the gate lies within the run."""
        return self.gate_step < len(self.steps)

    @property
    def saves_attention(self) -> bool:
        """Whether any step reuses any attention."""
        return any(any(per_step) for per_step in self.live.values())


def cross_attention_action(step: int, gate_step: int) -> Action:
    """Published action of cross-attention: captured at the last planning step, reused from the gate step on."""
    if step < gate_step - 1:
        return Action.COMPUTE
    return Action.CAPTURE if step == gate_step - 1 else Action.REUSE


def self_attention_action(step: int, config: GateConfig, gate_step: int) -> Action:
    """Published action of self-attention; both intervals count from step 0, not from `warm_up` or the gate."""
    if step >= gate_step:
        return Action.CAPTURE if step % config.fi_interval == 0 else Action.REUSE
    if step == gate_step - 1:
        return Action.CAPTURE
    if step < config.warm_up:
        return Action.COMPUTE
    if step == config.warm_up or step % config.sp_interval == 0:
        return Action.CAPTURE
    return Action.REUSE


def resolve_gate_step(config: GateConfig, sigmas: Sequence[float], percent_to_sigma: Callable[[float], float]) -> int:
    """The gate step m of a run; m ≥ N means that the whole run is plain.

    Args:
        config: the settings; `gate` and `gate_unit` count here.
        sigmas: the run's schedule of N + 1 noise levels.
        percent_to_sigma: the model's map from a share of its whole schedule (0 to 1) to sigma.
    """
    steps = len(sigmas) - 1
    if config.gate_unit == "step":
        return round_half_up(config.gate)
    if config.gate_unit == "fraction of steps":
        return round_half_up(config.gate * steps)
    gate_sigma = float(percent_to_sigma(config.gate))
    for step in range(steps):
        if sigmas[step] <= gate_sigma + step_tolerance(sigmas, step):
            return step
    return steps


def refreshed_steps(config: GateConfig, sigmas: Sequence[float], gate_step: int, has_guidance: bool) -> frozenset[int]:
    """Steps of a run that are refreshed, as far as that is known before it.

    Args:
        config: the settings.
        sigmas: the run's schedule of N + 1 noise levels.
        gate_step: first step of the fidelity phase.
        has_guidance: whether there is a guidance difference; without one there is no error that could decide.
    """
    if config.refresh == "never" or (config.refresh == "by error" and has_guidance):
        return frozenset()
    last = last_refresh_step(sigmas)
    if config.guided_steps:
        placed = spread_steps(len(sigmas) - 1, config.guided_steps, last)
        return frozenset(step for step in placed if step >= gate_step)
    return growing_gaps(gate_step, config.refresh_gap, last)


def needed_steps(config: GateConfig, gate_step: int, refreshed: frozenset[int]) -> frozenset[int]:
    """Steps that have to run whole: what the fidelity phase builds on is captured in them, of every block.

    Args:
        config: the settings.
        gate_step: first step of the fidelity phase.
        refreshed: its refreshed steps.
    """
    first = 0 if config.guided_steps else gate_step - 1
    return refreshed.union(range(first, gate_step))


def build_schedule(
    config: GateConfig,
    steps: int,
    gate_step: int,
    shallow: Collection[int] = frozenset(),
    first_frozen: int | None = None,
    refreshed: Collection[int] = frozenset(),
) -> Schedule:
    """Lay out a run of `steps` steps with its gate at `gate_step`.

    The published table, less what the settings switch off, and less captures that no later step reuses (they would
    cost memory for nothing). `gate_step` ≥ `steps` gives the plain run.

    Args:
        config: the settings.
        steps: number of steps N.
        gate_step: first step of the fidelity phase.
        shallow: steps in which part of the network does not run (DeepCache); never the one before the gate.
        first_frozen: first step in which any cross-attention is reused, where some have gates of their own.
        refreshed: steps of the fidelity phase that are guided and capture anew.
    """
    if gate_step >= steps:
        gate_step, config = steps, replace(config, self_attention=False, cross_attention=False)
    plans = [_plan_step(config, step, steps, gate_step, step in refreshed) for step in range(steps)]
    self_actions, self_live = drop_idle_captures(reschedule_missed([plan.self_attention for plan in plans], shallow))
    cross_actions, cross_live = drop_idle_captures([plan.cross_attention for plan in plans])
    if first_frozen is not None and config.cross_attention:
        cross_live = tuple(live or first_frozen <= step < gate_step for step, live in enumerate(cross_live))
    return Schedule(
        gate_step=gate_step,
        steps=tuple(
            StepPlan(plan.phase, self_action, cross_action)
            for plan, self_action, cross_action in zip(plans, self_actions, cross_actions, strict=True)
        ),
        live={SELF_ATTENTION: self_live, CROSS_ATTENTION: cross_live},
    )


def _plan_step(config: GateConfig, step: int, steps: int, gate_step: int, is_refreshed: bool) -> StepPlan:
    if step >= steps - config.protect_last:
        return StepPlan(Phase.PROTECTED, Action.COMPUTE, Action.COMPUTE)
    if is_refreshed:
        self_attention, cross_attention = (
            Action.CAPTURE if is_gated else Action.COMPUTE
            for is_gated in (config.self_attention, config.cross_attention)
        )
        return StepPlan(Phase.REFRESH, self_attention, cross_attention)
    return StepPlan(
        phase=Phase.PLANNING if step < gate_step else Phase.FIDELITY,
        self_attention=self_attention_action(step, config, gate_step) if config.self_attention else Action.COMPUTE,
        cross_attention=cross_attention_action(step, gate_step) if config.cross_attention else Action.COMPUTE,
    )


def reschedule_missed(actions: Sequence[Action], shallow: Collection[int]) -> list[Action]:
    """Captures due in a shallow step are made again in the next full one, for what did not run.

    Otherwise two intervals without a common multiple in reach would leave the deep attentions frozen for good.
    """
    made: list[Action] = []
    is_owed = False
    for step, action in enumerate(actions):
        is_owed = is_owed or action is Action.CAPTURE
        is_reused_whole = step not in shallow and action is Action.REUSE
        made.append(Action.CAPTURE if is_owed and is_reused_whole else action)
        is_owed = is_owed and step in shallow
    return made
