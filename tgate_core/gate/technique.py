"""T-GATE in one sampling run: when to capture, when to reuse, and when one branch stands for both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor

from ..engine.actions import ATTENTION_KINDS, CROSS_ATTENTION, SELF_ATTENTION, Action, AttentionKind, CaptureKind
from ..engine.identity import COND, UNCOND, BankKey, CondBatch, CondKey, Place
from ..engine.reasons import CACHE_FULL
from ..engine.storage import CacheSettings
from ..engine.technique import BatchPlan, FinishedBatch, Layout, NetworkSizes, RunContext, TechniqueRun
from .config import GateConfig, Scope
from .guidance import BRANCHES_APART, MODES, NO_GUIDANCE, GuidanceMode, effective_mode, noise_space_difference
from .refresh import Gap, last_refresh_step, relative_change
from .schedule import Phase, Schedule, StepPlan, build_schedule, needed_steps, refreshed_steps, resolve_gate_step

# A pass whose captures did not fit is repeated with guidance; twice in a row, and guidance stays.
MAX_ANCHOR_MISSES = 2
NOT_MERGED = "guidance kept: the captures of cond and uncond do not fit together"
GATE_BEYOND = "the gate lies beyond this run of {steps} steps; lower it"
NOTHING_TO_REUSE = "the settings leave nothing to reuse in this run"
NOTHING_BEFORE = "the first step behind the gate runs in full: nothing was captured before it"
NOTHING_BEHIND = "the network did not run behind the gate, so there was nothing to save"
NOTHING_AGAIN = "what was captured did not come up again at the same place of the run: computed in full"
NOT_SETTLED = "cross-attention never settled as the gate asks, so the gate lies beyond the run; raise gate"
NOTHING_MEASURED = (
    "TGATE: gate_unit is 'measured', but the probe holds no measurement yet; take the probe from TGATE Convergence "
    "Plot, which waits for the run that measures, or load one with TGATE Load Probe."
)


class SettledAttention(Protocol):
    """A measurement of when attention settles, see `ConvergenceProfile`."""

    @property
    def network(self) -> str:
        """Class of the network."""

    @property
    def signature(self) -> str:
        """What tells networks of that class apart."""

    def gate_step(self, tolerance: float) -> int:
        """First step from which cross-attention, on average, changes by no more than `tolerance` percent a step."""

    def site_gate_steps(self, tolerance: float) -> dict[str, int]:
        """The same for each cross-attention on its own."""

    def step_in(self, sigmas: Sequence[float], step: int) -> int:
        """The step of another run that corresponds to `step` of the measured one."""


class MeasuredBy(Protocol):
    """A probe; `profile` is None until it holds a measurement."""

    @property
    def profile(self) -> SettledAttention | None:
        """The measurement."""


@dataclass(frozen=True)
class Gate:
    """T-GATE as a node has set it up.

    Attributes:
        settings: the settings.
        probe: holds the measurement that the gate follows; None where none is connected.
    """

    settings: GateConfig
    probe: MeasuredBy | None = None

    @property
    def cache_settings(self) -> CacheSettings:
        """Where captures are to live."""
        return CacheSettings(self.settings.cache_device, self.settings.cache_limit_mb)

    def begin(self, context: RunContext) -> GateRun:
        """State for one run.

        Raises:
            ValueError: gate_unit is "measured" and there is no measurement, or one of another model.
        """
        config = self.settings
        if config.gate_unit == "measured":
            return self._begin_measured(config, context)
        return GateRun(config, context, resolve_gate_step(config, context.sigmas, context.percent_to_sigma))

    def within(self, scope: Scope) -> Gate | None:
        """What is left for a network of which only so much can be gated; None where nothing is."""
        config = self.settings.within(scope)
        return None if config is None else replace(self, settings=config)

    def _begin_measured(self, config: GateConfig, context: RunContext) -> GateRun:
        profile = None if self.probe is None else self.probe.profile
        if profile is None:
            raise ValueError(NOTHING_MEASURED)
        if profile.signature != context.signature():
            raise ValueError(
                f"TGATE: the probe was measured on another model ({profile.network}, this is {context.network}); "
                "measure this one with TGATE Probe, or choose another gate_unit."
            )
        step = profile.step_in(context.sigmas, profile.gate_step(config.gate))
        sites = profile.site_gate_steps(config.gate)
        site_gates = {site: profile.step_in(context.sigmas, gate) for site, gate in sites.items()}
        return GateRun(config, context, step, site_gates)


@dataclass
class Baseline:
    """Last guided pass at a place, needed by single-branch passes.

    Attributes:
        conds: all conds of both branches that were asked for.
        difference: their guidance difference in noise space, latent shape (B, C, ...); None where nothing needs it.
        last_used: when it was made or used.
        step: the step that it was made in.
        gap: steps from there to the next guided one, where the error decides.
    """

    conds: tuple[CondKey, ...]
    difference: Tensor | None
    last_used: int
    step: int
    gap: Gap


class GateRun(TechniqueRun):
    """The gate in one run."""

    def __init__(
        self, config: GateConfig, context: RunContext, gate_step: int, site_gates: Mapping[str, int] | None = None
    ) -> None:
        """
        Args:
            config: the settings.
            context: what the run is about.
            gate_step: first step of the fidelity phase; N or more: no gate.
            site_gates: gate steps of single cross-attentions, by `Site.name`; those not named have the run's.
        """
        self.config = config
        self.mode: GuidanceMode = MODES[config.guidance]
        self.site_gates = {site: min(gate, gate_step) for site, gate in (site_gates or {}).items()}
        self._context = context
        self._gate_step = gate_step
        self._baselines: dict[Place, Baseline] = {}
        self._anchor_misses: Counter[Place] = Counter()
        self._now = 0
        self._can_refresh = config.refresh != "never"
        self._is_by_error = config.refresh == "by error" and context.has_guidance
        self._last_refresh = last_refresh_step(context.sigmas) if self._can_refresh else -1
        self._to_refresh = refreshed_steps(config, context.sigmas, gate_step, context.has_guidance)
        self._refreshed: set[int] = set()
        self.schedule: Schedule = self._build_schedule(frozenset())
        if self.schedule.has_gate:
            # What is protected runs as in the plain run.
            protected = range(max(0, context.steps - config.protect_last), context.steps)
            self.needs_full = needed_steps(config, self.schedule.gate_step, self._to_refresh).union(protected)

    def _build_schedule(self, shallow: frozenset[int]) -> Schedule:
        first_frozen = min(self.site_gates.values(), default=None)
        steps = self._context.steps
        return build_schedule(self.config, steps, self._gate_step, shallow, first_frozen, self._to_refresh)

    @property
    def saves(self) -> bool:
        """Whether any attention is reused, or any step drops a branch."""
        is_gated = any(plan.phase is Phase.FIDELITY for plan in self.schedule.steps)
        drops_a_branch = self.mode.drops_a_branch and self._context.has_guidance
        return self.schedule.saves_attention or (drops_a_branch and is_gated)

    @property
    def executed_phases(self) -> list[Phase]:
        """The phase of each step; which steps were refreshed is known of those that ran."""
        return [
            Phase.REFRESH if step in self._refreshed else plan.phase for step, plan in enumerate(self.schedule.steps)
        ]

    def lay_out(self, layout: Layout) -> None:
        """Captures due in a step that others leave shallow are made later."""
        self.schedule = self._build_schedule(layout.shallow)

    def opening_reasons(self, saves_nothing: bool) -> Iterable[str]:
        """A gate beyond the run, cfg 1, and settings that save nothing."""
        if not self.schedule.has_gate:
            is_measured = self.config.gate_unit == "measured"
            yield NOT_SETTLED if is_measured else GATE_BEYOND.format(steps=self._context.steps)
        elif self.mode.drops_a_branch and not self._context.has_guidance:
            yield NO_GUIDANCE
        elif saves_nothing:
            yield NOTHING_TO_REUSE

    def closing_reasons(self) -> Iterable[str]:
        """Steps of the fidelity phase in which nothing was left out, where something was to be."""
        counts, drops_a_branch = self._context.counts, self.mode.drops_a_branch and self._context.has_guidance
        steps = enumerate(self.schedule.steps)
        fidelity = [at for at, plan in steps if plan.phase is Phase.FIDELITY and (drops_a_branch or plan.reuses)]
        gated = [step for step in fidelity if step in counts.by_step and counts.by_step[step].calls]
        if fidelity and not gated:
            yield NOTHING_BEHIND
        unsaved = [step for step in gated if not counts.has_saved_in(step)]
        if unsaved:
            yield NOTHING_BEFORE if unsaved == gated[:1] != gated else NOTHING_AGAIN

    @property
    def side_notes(self) -> frozenset[str]:
        """Without guidance to drop there is attention to reuse all the same."""
        return frozenset({NO_GUIDANCE}) if self.schedule.saves_attention else frozenset()

    def begin_step(self, step: int, now: int, forgotten: int) -> None:
        """Drop baselines that were not used for a while."""
        self._now = now
        self._baselines = {place: kept for place, kept in self._baselines.items() if kept.last_used >= forgotten}

    def is_live(self, kind: CaptureKind, step: int) -> bool:
        """Whether attention captures are still going to be reused."""
        return kind in self.schedule.live and self.schedule.live[kind][step]

    def held_elements(self, sizes: NetworkSizes) -> int:
        """Captures of both kinds of attention at once only where the schedule lets them overlap."""
        kinds = sum(any(live) for live in self.schedule.live.values())
        # With fi_interval 1 self-attention is given up before cross-attention is captured, unless some cross-attentions
        # have gates of their own.
        is_both_at_once = self.config.fi_interval > 1 or bool(self.site_gates)
        at_once = kinds if is_both_at_once else min(kinds, 1)
        return at_once * sizes.attention_outputs() if at_once else 0

    def close(self) -> None:
        """Let go of the differences."""
        self._baselines.clear()

    def note_anchor_miss(self, place: Place) -> None:
        """Once more, and this place keeps guidance."""
        self._anchor_misses[place] += 1

    def plan(self, plan: BatchPlan) -> BatchPlan:
        """Attention and guidance of one cond batch."""
        planned = self._plan_guided(plan) if plan.is_repeated else self._plan_by_schedule(plan)
        return replace(planned, site_actions=self._site_actions(plan.step))

    def _site_actions(self, step: int) -> dict[str, Action]:
        """What cross-attentions with gates of their own do before the gate of the run."""
        if not (self.site_gates and self.config.cross_attention and self.schedule.has_gate):
            return {}
        if step >= self.schedule.gate_step:
            return {}
        frozen = {site: Action.REUSE for site, gate in self.site_gates.items() if step >= gate}
        captured = {site: Action.CAPTURE for site, gate in self.site_gates.items() if step == gate - 1}
        return frozen | captured

    def _plan_by_schedule(self, plan: BatchPlan) -> BatchPlan:
        batch, step_plan = plan.batch, self.schedule.steps[plan.step]
        plan = replace(plan, actions=_actions(step_plan))
        if self.schedule.has_gate and plan.step == self.schedule.gate_step - 1:
            return self._relied_on(plan)
        if step_plan.phase not in (Phase.FIDELITY, Phase.REFRESH):
            return plan
        mode = self._effective_mode(batch)
        if mode is not self.mode and self._can_refresh:  # a difference held until now no longer fits
            self._baselines.pop(batch.place, None)
        if self._is_due(plan):
            self._drop_anchor(batch)
            return self._plan_guided(plan)
        if mode.merges_captures and not self._merge_anchor(batch):
            self._anchor_misses[batch.place] = MAX_ANCHOR_MISSES
            mode = self._effective_mode(batch)
        if mode.branch is None:
            return plan
        if self._is_ready(mode, batch):
            return replace(plan, branch=mode.branch, uses_merged_captures=mode.merges_captures)
        return self._plan_guided(plan)

    def _plan_guided(self, plan: BatchPlan) -> BatchPlan:
        """A guided step in place of the last of the planning phase: all branches, attention captured again."""
        actions = _actions(self.schedule.steps[plan.step])
        if self.config.cross_attention:
            actions[CROSS_ATTENTION] = Action.CAPTURE
        if self._can_refresh and actions[SELF_ATTENTION] is Action.REUSE:
            actions[SELF_ATTENTION] = Action.CAPTURE
        return self._relied_on(replace(plan, actions=actions))

    def _is_due(self, plan: BatchPlan) -> bool:
        """Whether a guided step is due that was planned for this step or, but for another node's guess, before."""
        baseline = self._baselines.get(plan.batch.place)
        if baseline is None or baseline.step >= plan.step or plan.step > self._last_refresh:
            return False
        if self._is_by_error:
            return plan.step >= baseline.step + int(baseline.gap.steps)
        return any(baseline.step < step <= plan.step for step in self._to_refresh)

    def _relied_on(self, plan: BatchPlan) -> BatchPlan:
        """The pass that the fidelity phase builds on; captures of a branch that will not run again are not kept."""
        mode = self._effective_mode(plan.batch)
        captured = None if mode.merges_captures else mode.branch
        return replace(plan, captured_branch=captured, is_relied_on=True)

    def _effective_mode(self, batch: CondBatch) -> GuidanceMode:
        mode, reason = effective_mode(self.mode, batch, self._context.auxiliary_uuids)
        if reason in (NO_GUIDANCE, BRANCHES_APART):
            # A node that runs the branches one after the other has shown the second one by now.
            is_apart = reason is BRANCHES_APART or bool(self._context.auxiliary_uuids)
            reason = BRANCHES_APART if is_apart and self._context.has_guidance else NO_GUIDANCE
        if mode.merges_captures and self.config.cross_attention:
            if self._context.cache.has_refused:
                mode, reason = MODES["keep"], CACHE_FULL
            elif self._anchor_misses[batch.place] >= MAX_ANCHOR_MISSES:
                mode, reason = MODES["keep"], NOT_MERGED
        if reason is not None:
            self._context.counts.note(reason)
        return mode

    def _is_ready(self, mode: GuidanceMode, batch: CondBatch) -> bool:
        """Whether a cond-only step is possible: the branch has its captures and, if the mode needs it, a difference."""
        cache, baseline = self._context.cache, self._baselines.get(batch.place)
        if baseline is None:  # nor has any other node had a chance to show that it needs both branches
            return False
        if mode.holds_difference and (baseline.difference is None or baseline.conds != batch.pair):
            return False
        if not self.config.cross_attention:
            return True
        if mode.merges_captures:
            return cache.holds(batch.place, batch.pair, CROSS_ATTENTION)
        # The host leaves out default conds where others cover the frame: not every cond that is asked for has captures.
        conds = batch.conds(COND)
        return set(baseline.conds).issuperset(conds) and any(
            cache.holds(batch.place, cond, CROSS_ATTENTION) for cond in conds
        )

    def _merge_anchor(self, batch: CondBatch) -> bool:
        """Merge what the two branches captured at this place, part by part; False where that cannot be done."""
        cache, place, (cond,), (uncond,) = self._context.cache, batch.place, batch.conds(COND), batch.conds(UNCOND)
        keys = [
            (BankKey(place, uncond, part), BankKey(place, cond, part), BankKey(place, batch.pair, part))
            for part in cache.parts(place, cond)
        ]
        merged = [cache.merge(*triple, self._now) for triple in keys]
        return all(merged)

    def _drop_anchor(self, batch: CondBatch) -> None:
        """Merged captures make room for the two that take their place."""
        cache = self._context.cache
        for part in cache.parts(batch.place, batch.pair):
            cache.drop(BankKey(batch.place, batch.pair, part))

    def finish(self, done: FinishedBatch, predictions: list[Tensor]) -> list[Tensor]:
        """After a guided pass its difference is held; after a single-branch pass the missing prediction is made."""
        plan, sigma = done.plan, done.sigma
        if plan.branch is None:
            if plan.is_relied_on and plan.batch.is_guided and done.has_run:
                self._set_baseline(plan, predictions, sigma)
            return predictions
        baseline, survivor = self._baselines.get(plan.batch.place), predictions[plan.branch]
        if baseline is not None:
            baseline.last_used = self._now
        difference = baseline.difference if baseline is not None and self.mode.holds_difference else None
        return [survivor, self.mode.missing_prediction(survivor, difference, sigma)]

    def _set_baseline(self, plan: BatchPlan, predictions: list[Tensor], sigma: float) -> None:
        place, difference = plan.batch.place, None
        if (self.mode.holds_difference or self._is_by_error) and sigma > 0:
            difference = noise_space_difference(predictions[COND], predictions[UNCOND], sigma)
        before = self._baselines.get(place)
        if self._can_refresh and plan.step >= self.schedule.gate_step:
            self._refreshed.add(plan.step)
        gap = self._next_gap(before, plan.batch, difference)
        self._baselines[place] = Baseline(plan.batch.pair, difference, self._now, plan.step, gap)

    def _next_gap(self, before: Baseline | None, batch: CondBatch, difference: Tensor | None) -> Gap:
        if before is None or before.conds != batch.pair or before.difference is None or difference is None:
            return Gap(self.config.refresh_gap)
        change = relative_change(difference, before.difference)
        return Gap(before.gap.steps, change, self.config.refresh_tolerance)


def _actions(step_plan: StepPlan) -> dict[AttentionKind, Action]:
    return {kind: step_plan.action(kind) for kind in ATTENTION_KINDS}
