"""All mutable state of one sampling run, and the plan of every pass in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from .branches import CACHE_FULL, NOT_MERGED, effective_guidance, is_merged, surviving_branch
from .cache import CaptureCache
from .config import GateConfig, Guidance
from .deep_cache import DeepCacheConfig, build_deep_schedule
from .evaluation import Baseline, Evaluation
from .guidance import noise_space_difference, uncond_from_difference
from .model_pass import ModelPass, PassPlan, TileMemory
from .probe import Measurement
from .request import COND, UNCOND, BankKey, PassRequest, Place
from .schedule import (
    ATTENTION_KINDS,
    CROSS_ATTENTION,
    DEEP_FEATURE,
    Action,
    AttentionKind,
    Phase,
    StepPlan,
    build_schedule,
)
from .statistics import RunStatistics
from .steps import StepTracker
from .tally import CallShape
from .tiles import is_in_place

# Adaptive samplers evaluate a step dozens of times; captures for each would only fill memory.
MAX_EVALUATIONS_PER_STEP = 4
# Steps after which captures that nobody asked for are given up.
PATIENCE = 2
# A pass whose captures did not fit is repeated with guidance; twice in a row, and guidance stays.
MAX_LOST_TEXT = 2
MOVED = "the sampler moves the latent between steps, so what was captured before is elsewhere and is not reused"
RUN_TWICE = "another node runs the network more than once in a call, so which run a capture belongs to is unknown"


class Run:
    """State of one sampling run: made when it starts, dropped when it ends, however it ends."""

    def __init__(
        self,
        config: GateConfig,
        sigmas: Sequence[float],
        gate_step: int,
        keep: Callable[[Tensor], Tensor],
        latent_shape: Sequence[int] = (),
        deep_cache: DeepCacheConfig | None = None,
        site_gates: Mapping[str, int] | None = None,
        is_measured: bool = False,
        is_watched: bool = False,
    ) -> None:
        """
        Args:
            config: the settings of the node.
            sigmas: the run's N + 1 noise levels.
            gate_step: first step of the fidelity-improving phase.
            keep: decides where captures live, see `CaptureCache`.
            latent_shape: shape of the whole latent, (B, C, H, W) or more dimensions; for foreseeing memory alone.
            deep_cache: the settings of DeepCache, None where it is not on the model.
            site_gates: gate steps of single cross-attentions, by `Site.name`; those not named have the run's.
            is_measured: whether a probe is on the model; it measures runs that are left as they are, and no others.
            is_watched: whether the sampler is one that may move the latent, so that each evaluation is compared with
                the one before.
        """
        self.config = config
        self.latent_shape = tuple(latent_shape)
        self.tracker = StepTracker(sigmas)
        off = DeepCacheConfig(cache_interval=1)
        self.deep = build_deep_schedule(deep_cache or off, self.tracker.sigmas, gate_step, config.protect_last)
        self.site_gates = {site: min(gate, gate_step) for site, gate in (site_gates or {}).items()}
        first_frozen = min(self.site_gates.values(), default=None)
        self.schedule = build_schedule(config, self.tracker.steps, gate_step, self.deep.shallow, first_frozen)
        self.cache = CaptureCache(keep, config.cache_limit_mb * 2**20)
        self.statistics = RunStatistics(self.tracker.steps, self.schedule.gate_step)
        self.evaluation: Evaluation | None = None
        # Arguments of one network call of each shape without their values: from them its cost is counted later.
        self.call_templates: dict[CallShape, Any] = {}
        # By model: how often its network comes to attentions of the same names when it runs once.
        self.visits: dict[int, int] = {}
        # By the id of a network: whether it runs compiled code whatever we do.
        self.is_compiled: dict[int, bool] = {}
        self.measurement = Measurement(self.tracker.sigmas, keep) if is_measured and self.saves_nothing else None
        self._is_watched = is_watched
        self._last_latent: Tensor | None = None
        self._shifts = 0
        self._baselines: dict[Place, Baseline] = {}
        self._evaluations_at_step: Counter[int] = Counter()
        self._auxiliary_uuids: set[Hashable] = set()
        self._tiles: TileMemory = {}
        self._lost_text_at: Counter[Place] = Counter()
        self._furthest_step = -1
        self._clock = 0

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing to do in this run: nothing to save, and nothing to measure."""
        return self.saves_nothing and self.measurement is None

    @property
    def saves_nothing(self) -> bool:
        """Whether the run is left as it is: nothing is reused, and no step drops guidance."""
        drops_guidance = self.config.guidance != "keep" and any(
            plan.phase is Phase.FIDELITY for plan in self.schedule.steps
        )
        return not (self.schedule.saves_attention or drops_guidance or self.deep.shallow)

    def close(self) -> None:
        """Let go of everything that was captured."""
        self.statistics.peak_cache_bytes = self.cache.peak_bytes
        self.cache.clear()
        self._baselines.clear()
        self.evaluation = self.measurement = self._last_latent = None

    def begin_evaluation(self, latent: Tensor) -> Evaluation:
        """The sampler asks for a prediction for `latent`, (B, C, ...)."""
        if self._is_watched:
            last, self._last_latent = self._last_latent, latent.detach().clone()
            if last is not None and last.shape == latent.shape and not is_in_place(latent, last):
                self._shifts += 1
                self.statistics.note(MOVED)
        return Evaluation(latent, self._shifts)

    def note_auxiliary(self, evaluation: Evaluation, uuids: Iterable[Hashable]) -> bool:
        """Another node evaluates some conds on its own; it is left alone, but guidance has to respect it.

        Returns whether it comes too late: its outcome is about to be compared with a branch that was dropped.
        """
        auxiliary = set(uuids)
        self._auxiliary_uuids.update(auxiliary)
        if evaluation.survivors is not None and not evaluation.survivors.issuperset(auxiliary):
            self.statistics.take_back_dropped(evaluation.step or 0)
            return True
        self.statistics.auxiliary_passes += 1
        return False

    def locate(self, evaluation: Evaluation, sigma: float) -> int:
        """The step of an evaluation, at its first pass also its ordinal within the step."""
        if evaluation.step is None:
            evaluation.step = self.tracker.step_of(sigma)
            evaluation.ordinal = self._evaluations_at_step[evaluation.step]
            self._evaluations_at_step[evaluation.step] += 1
            self._advance(evaluation.step)
        return evaluation.step

    def plan(self, request: PassRequest, step: int) -> PassPlan:
        """What the pass `request` of `step` does."""
        return self._completed(self._plan_attention(request, step), step)

    def plan_guided(self, request: PassRequest, step: int) -> PassPlan:
        """The pass with all branches, capturing cross-attention anew: stands in for the last planning step."""
        return self._completed(self._plan_guided(request, step), step)

    def _completed(self, plan: PassPlan, step: int) -> PassPlan:
        """The plan, and how deep the network runs in it: all the way where later passes live on what it captures."""
        if plan.request.place.evaluation >= MAX_EVALUATIONS_PER_STEP:
            return replace(plan, step=step)
        depth = self.deep.steps[step]
        if plan.sets_baseline and depth.action is Action.REUSE:
            depth = replace(depth, action=Action.CAPTURE)
        return replace(plan, step=step, site_actions=self._site_actions(step), depth=depth)

    def _site_actions(self, step: int) -> dict[str, Action]:
        """What cross-attentions with gates of their own do before the gate of the run."""
        if not (self.site_gates and self.config.cross_attention and self.schedule.has_gate):
            return {}
        if step >= self.schedule.gate_step:
            return {}
        frozen = {site: Action.REUSE for site, gate in self.site_gates.items() if step >= gate}
        captured = {site: Action.CAPTURE for site, gate in self.site_gates.items() if step == gate - 1}
        return frozen | captured

    def _plan_attention(self, request: PassRequest, step: int) -> PassPlan:
        step_plan = self.schedule.steps[step]
        if request.place.evaluation >= MAX_EVALUATIONS_PER_STEP:
            return PassPlan(request, dict.fromkeys(ATTENTION_KINDS, Action.COMPUTE))
        if self.schedule.has_gate and step == self.schedule.gate_step - 1:
            return self._plan_capture(request, _actions(step_plan))
        if step_plan.phase is not Phase.FIDELITY:
            return PassPlan(request, _actions(step_plan))
        guidance = self._effective_guidance(request)
        if is_merged(guidance) and not self._merge_anchor(request):
            self._lost_text_at[request.place] = MAX_LOST_TEXT
            guidance = self._effective_guidance(request)
        if guidance == "keep":
            return PassPlan(request, _actions(step_plan))
        if self._is_ready(guidance, request):
            return PassPlan(request, _actions(step_plan), surviving_branch(guidance), is_merged(guidance))
        return self._plan_guided(request, step)

    def _plan_guided(self, request: PassRequest, step: int) -> PassPlan:
        actions = _actions(self.schedule.steps[step])
        if self.config.cross_attention:
            actions[CROSS_ATTENTION] = Action.CAPTURE
        return self._plan_capture(request, actions)

    def _plan_capture(self, request: PassRequest, actions: dict[AttentionKind, Action]) -> PassPlan:
        """The pass that the fidelity phase lives on; captures of a branch that will not run again are not kept."""
        guidance = self._effective_guidance(request)
        captured = None if is_merged(guidance) else surviving_branch(guidance)
        return PassPlan(request, actions, captured_branch=captured, sets_baseline=True)

    def begin_pass(self, plan: PassPlan, latent: Tensor, is_as_cut: bool = True) -> ModelPass:
        """A pass that is about to run on `latent`, (B, C, H, W) or more dimensions.

        Args:
            plan: what it does.
            latent: what is denoised.
            is_as_cut: whether its network calls are given what the host cuts out of the latent for sure.
        """
        if plan.branch is None:
            self.statistics.tallies[plan.step].full_passes += plan.request.is_guided
        else:
            self.statistics.note_dropped(plan.step)
            if self.evaluation is not None:
                survivors = {cond.uuid for cond in plan.request.conds(plan.branch)}
                self.evaluation.survivors = survivors | (self.evaluation.survivors or set())
        is_first = plan.request.place.evaluation == 0
        measurement = self.measurement if is_first else None  # else a change within a step would count as one
        return ModelPass(plan, self.cache, self._clock, latent, self._tiles, measurement, is_as_cut)

    def plan_in_full(self, request: PassRequest, step: int) -> PassPlan:
        """The pass with all branches, in which nothing is reused: stands in for one that turned out to be void."""
        return PassPlan(request, dict.fromkeys(ATTENTION_KINDS, Action.COMPUTE), sets_baseline=True, step=step)

    def note_void(self, plan: PassPlan) -> None:
        """A pass reused captures in a network call that may have been about something else; it will be repeated."""
        if plan.branch is not None:
            self.statistics.take_back_dropped(plan.step)

    def note_lost_text(self, plan: PassPlan) -> None:
        """A pass on merged captures met cross-attention without one: it is void and will be repeated."""
        self.statistics.take_back_dropped(plan.step)
        self._lost_text_at[plan.request.place] += 1

    def finish_pass(
        self, plan: PassPlan, predictions: list[Tensor], sigma: float, has_run: bool = True
    ) -> list[Tensor]:
        """Predictions as the guidance formula is to see them.

        Args:
            plan: the pass that ran.
            predictions: denoised prediction of each branch, (B, C, ...); those that did not run are meaningless.
            sigma: noise level of the pass.
            has_run: whether the network made them; from another node's guesses no difference is taken.
        """
        if plan.branch is None:
            if plan.sets_baseline and plan.request.is_guided and has_run:
                self._set_baseline(plan.request, predictions, sigma)
            return predictions
        baseline, survivor = self._baselines.get(plan.request.place), predictions[plan.branch]
        if baseline is None:
            return [survivor, survivor]
        baseline.last_used = self._clock
        if baseline.difference is None:
            return [survivor, survivor]
        return [survivor, uncond_from_difference(survivor, baseline.difference, sigma)]

    def measure(self, plan: PassPlan, x: Tensor, predictions: Sequence[Tensor]) -> None:
        """Tell the measurement of a pass over `x` (B, C, …), if there is one; with one branch there is no angle."""
        if self.measurement is not None and plan.request.is_guided and plan.request.place.evaluation == 0:
            self.measurement.note_predictions(plan.step, x, predictions[COND], predictions[UNCOND])

    def _set_baseline(self, request: PassRequest, predictions: list[Tensor], sigma: float) -> None:
        difference = None
        if self.config.guidance == "cached_delta" and sigma > 0:
            difference = noise_space_difference(predictions[COND], predictions[UNCOND], sigma)
        self._baselines[request.place] = Baseline(request.pair, difference, self._clock)

    def _effective_guidance(self, request: PassRequest) -> Guidance:
        guidance, reason = effective_guidance(self.config.guidance, request, self._auxiliary_uuids)
        if is_merged(guidance) and self.config.cross_attention:
            if self.cache.has_refused:
                guidance, reason = "keep", CACHE_FULL
            elif self._lost_text_at[request.place] >= MAX_LOST_TEXT:
                guidance, reason = "keep", NOT_MERGED
        if reason is not None:
            self.statistics.note(reason)
        return guidance

    def _is_ready(self, guidance: Guidance, request: PassRequest) -> bool:
        """Whether the surviving branch has what it needs: its captures, and the difference it is to be guided by."""
        baseline = self._baselines.get(request.place)
        if baseline is None:  # nor has any other node had a chance to show that it needs both branches
            return False
        if guidance == "cached_delta" and (baseline.difference is None or baseline.conds != request.pair):
            return False
        if not self.config.cross_attention:
            return True
        if is_merged(guidance):
            return self.cache.holds(request.place, request.pair, CROSS_ATTENTION)
        # The host leaves out default conds where others cover the frame: not every cond that is asked for has captures.
        conds = request.conds(COND)
        return set(baseline.conds).issuperset(conds) and any(
            self.cache.holds(request.place, cond, CROSS_ATTENTION) for cond in conds
        )

    def _merge_anchor(self, request: PassRequest) -> bool:
        """Merge what the two branches captured at this place, part by part; False where that cannot be done."""
        place, (cond,), (uncond,) = request.place, request.conds(COND), request.conds(UNCOND)
        keys = [
            (BankKey(place, uncond, part), BankKey(place, cond, part), BankKey(place, request.pair, part))
            for part in self.cache.parts(place, cond)
        ]
        merged = [self.cache.merge(*triple, self._clock) for triple in keys]
        return all(merged)

    def _advance(self, step: int) -> None:
        """Give up captures that no later step wants, and those that nobody asked for in a while."""
        if step <= self._furthest_step:
            return
        self._furthest_step = step
        self._clock += 1
        for kind in ATTENTION_KINDS:
            if not self.schedule.wanted[kind][step]:
                self.cache.release(kind)
        if not self.deep.wanted[step]:
            self.cache.release(DEEP_FEATURE)
        forgotten = self._clock - PATIENCE
        self.cache.forget_unused(forgotten)
        self._baselines = {place: kept for place, kept in self._baselines.items() if kept.last_used >= forgotten}


def _actions(step_plan: StepPlan) -> dict[AttentionKind, Action]:
    return {kind: step_plan.action(kind) for kind in ATTENTION_KINDS}
