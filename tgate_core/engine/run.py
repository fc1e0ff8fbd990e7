"""All mutable state of one sampling run, and the plan of every pass in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from .actions import CAPTURE_KINDS
from .batch_pass import CondBatchPass, TileMemory
from .counts import CallShape
from .identity import CondBatch, ModelEvaluation
from .location import is_in_place
from .reasons import CACHE_FULL, CACHE_LIMIT, EXTRA_PASS, MANY_EVALUATIONS, MOVED, NO_CALL, NO_PASS
from .steps import StepTracker
from .technique import BatchPlan, FinishedBatch, Layout, RunContext, Technique, TechniqueRun

# Adaptive samplers evaluate a step dozens of times; captures for each would only fill memory.
MAX_EVALUATIONS_PER_STEP = 4
# Unused captures are dropped after this many steps.
PATIENCE = 2

AnyRun = TypeVar("AnyRun", bound=TechniqueRun)


class NetworkKey(NamedTuple):
    """A network as it is called.

    Attributes:
        network: its id.
        is_compiled_per_call: whether a node compiles it for each call.
        is_outside: whether it is called outside of main passes.
    """

    network: int
    is_compiled_per_call: bool
    is_outside: bool


@dataclass(frozen=True)
class NetworkFacts:
    """What has to be known of a network before it is called.

    Attributes:
        visits: how often it comes to attentions of the same names when it runs once.
        inline: names of the attentions that stand inline in its blocks, by type and number of the block, in order.
        is_compiled: whether it runs compiled code whatever we do.
        compiled: its compiled parts as the host's side handles them; None where no node compiles it for each call.
    """

    visits: int = 1
    inline: Mapping[tuple[str, int], Sequence[str]] = field(default_factory=dict)
    is_compiled: bool = False
    compiled: Any = None


class Run:
    """State of one sampling run: made when it starts, dropped when it ends, however it ends."""

    def __init__(
        self,
        context: RunContext,
        techniques: Iterable[Technique] = (),
        latent_shape: Sequence[int] = (),
        is_watched: bool = False,
    ) -> None:
        """
        Args:
            context: what the run is about.
            techniques: what is on the model, in the order in which they refine a plan.
            latent_shape: shape of the whole latent, (B, C, H, W) or more dimensions; for foreseeing memory alone.
            is_watched: whether the sampler is one that may move the latent, so that each evaluation is compared with
                the one before.

        Raises:
            ValueError: a technique cannot be run as it was set up; the message says what to change.
        """
        self.context = context
        self.cache, self.counts = context.cache, context.counts
        self.latent_shape = tuple(latent_shape)
        self.tracker = StepTracker(context.sigmas)
        self.counts.steps = self.tracker.steps
        self.techniques = tuple(technique.begin(context) for technique in techniques)
        self._lay_out()
        self.evaluation: ModelEvaluation | None = None
        # Arguments of one network call of each shape without their values: from them its cost is counted later.
        self.call_templates: dict[CallShape, Any] = {}
        self.networks: dict[NetworkKey, NetworkFacts] = {}
        # When the model was there, by the monotonic clock; None where that was not seen.
        self.loaded_at: float | None = None
        self._is_watched = is_watched
        self._last_latent: Tensor | None = None
        self._shifts = 0
        self._evaluations_at_step: Counter[int] = Counter()
        self._tiles: TileMemory = {}
        self._furthest_step = -1
        # Steps that ran the network: one that did not had no use for captures, which is no reason to drop them.
        self._clock = 0
        self._has_run_network = True

    def _lay_out(self) -> None:
        """What is skipped depends on what others need whole, what is left shallow on both, the rest on all of them."""
        layout = Layout(self._all_steps("needs_full"), is_settled=False)
        for _ in range(2):
            self._tell(layout)
            skipped = self._all_steps("skipped")
            layout = replace(layout, shallow=self._all_steps("shallow") | skipped, skipped=skipped)
        layout = replace(layout, is_plain=self.saves_nothing, is_settled=True)
        self._tell(layout)
        for technique in self.techniques:
            self._note(technique.opening_reasons(layout.is_plain))

    def _all_steps(self, name: str) -> frozenset[int]:
        none: frozenset[int] = frozenset()
        return none.union(*(getattr(technique, name) for technique in self.techniques))

    def _tell(self, layout: Layout) -> None:
        for technique in self.techniques:
            technique.lay_out(layout)

    def _note(self, reasons: Iterable[str]) -> None:
        for reason in reasons:
            self.counts.note(reason)

    @property
    def saves_nothing(self) -> bool:
        """Whether the run is left as it is: no step is cheaper than in the plain run."""
        return not any(technique.saves for technique in self.techniques)

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing to do in this run: nothing to save, and nothing to watch."""
        return self.saves_nothing and not any(technique.is_watching for technique in self.techniques)

    def find(self, kind: type[AnyRun]) -> AnyRun | None:
        """The technique of a kind, None where it is not on the model."""
        return next((technique for technique in self.techniques if isinstance(technique, kind)), None)

    def complete(self, latent: Tensor) -> None:
        """The run came to its end and made `latent`, (B, C, ...)."""
        for technique in self.techniques:
            technique.complete(latent)

    def explain(self) -> None:
        """Note why the run saved less than was planned, as far as that shows once it is over."""
        counts = self.counts
        if not counts.passes and not counts.auxiliary_passes:
            counts.note(NO_PASS)
        elif not counts.network_calls:
            counts.note(NO_CALL)
        elif self.cache.has_refused and CACHE_FULL not in counts.notes:
            counts.note(CACHE_LIMIT)
        elif {EXTRA_PASS}.union(*(one.side_notes for one in self.techniques)).issuperset(counts.notes):
            for technique in self.techniques:
                self._note(tuple(technique.closing_reasons()))

    def close(self) -> None:
        """Let go of everything that was captured."""
        self.counts.peak_cache_bytes = self.cache.peak_bytes
        self.cache.clear()
        for technique in self.techniques:
            technique.close()
        self.evaluation = self._last_latent = None

    def begin_evaluation(self, latent: Tensor) -> ModelEvaluation:
        """The sampler asks for a prediction for `latent`, (B, C, ...)."""
        if self._is_watched:
            last, self._last_latent = self._last_latent, latent.detach().clone()
            if last is not None and last.shape == latent.shape and not is_in_place(latent, last):
                self._shifts += 1
                self.counts.note(MOVED)
        return ModelEvaluation(latent, self._shifts)

    def note_auxiliary(self, evaluation: ModelEvaluation, uuids: Iterable[Hashable]) -> bool:
        """Another node evaluates some conds on its own; it is left alone, but guidance has to respect it.

        Returns whether it comes too late: its outcome is about to be compared with a branch that did not run.
        """
        auxiliary = set(uuids)
        self.context.auxiliary_uuids.update(auxiliary)
        if evaluation.survivors is not None and not evaluation.survivors.issuperset(auxiliary):
            for plan in evaluation.plans:
                self.counts.take_back(plan)
            return True
        self.counts.auxiliary_passes += 1
        return False

    def locate(self, evaluation: ModelEvaluation, sigma: float) -> int:
        """The step of an evaluation, at its first pass also its ordinal within the step."""
        if evaluation.step is None:
            evaluation.step = self.tracker.step_of(sigma)
            evaluation.ordinal = self._evaluations_at_step[evaluation.step]
            self._evaluations_at_step[evaluation.step] += 1
            self._advance(evaluation.step)
        return evaluation.step

    def plan(self, batch: CondBatch, step: int) -> BatchPlan:
        """What happens to the cond batch of `step`: each technique refines what those before it have planned."""
        return self._refined(BatchPlan(batch, step))

    def _refined(self, plan: BatchPlan) -> BatchPlan:
        if plan.batch.place.evaluation >= MAX_EVALUATIONS_PER_STEP:
            self.counts.note(MANY_EVALUATIONS)
            return plan
        for technique in self.techniques:
            plan = technique.plan(plan)
        return plan

    def plan_again(self, plan: BatchPlan, done: CondBatchPass) -> BatchPlan | None:
        """The plan that a pass has to be repeated with; None where its predictions count.

        A pass is void where captures went to a network call that may have been about something else (repeated with
        nothing reused), and where merged captures lacked a cross-attention (repeated with all branches).
        """
        if not (done.is_void or done.has_missed_anchor):
            return None
        self.counts.take_back(plan)
        if self.evaluation is not None:
            self.evaluation.plans.remove(plan)
        if done.is_void:
            return BatchPlan(plan.batch, plan.step, is_relied_on=True)
        for technique in self.techniques:
            technique.note_anchor_miss(plan.batch.place)
        return self._refined(BatchPlan(plan.batch, plan.step, is_repeated=True))

    def begin_pass(self, plan: BatchPlan, latent: Tensor, is_as_cut: bool = True) -> CondBatchPass:
        """A pass that is about to run on `latent`, (B, C, H, W) or more dimensions.

        Args:
            plan: what it does.
            latent: what is denoised.
            is_as_cut: whether its network calls are given what the host cuts out of the latent for sure.
        """
        self.counts.begin_pass(plan)
        self._has_run_network = self._has_run_network or plan.runs_network
        if self.evaluation is not None:
            self.evaluation.plans.append(plan)
            if plan.branch is not None or not plan.runs_network:
                self.evaluation.survivors = _survivors(plan) | (self.evaluation.survivors or set())
        return CondBatchPass(plan, self.cache, self._clock, latent, self._tiles, self.techniques, is_as_cut)

    def finish(self, done: FinishedBatch, predictions: list[Tensor]) -> list[Tensor]:
        """Predictions as the guidance formula is to see them; what the last technique planned is undone first.

        Args:
            done: the cond batch that ran.
            predictions: denoised prediction of each branch, (B, C, ...); those that did not run are meaningless.
        """
        for technique in reversed(self.techniques):
            predictions = technique.finish(done, predictions)
        return predictions

    def _advance(self, step: int) -> None:
        """Drop captures that no later step reuses, and those that were not used for a while."""
        if step <= self._furthest_step:
            return
        self._furthest_step = step
        self._clock += self._has_run_network
        self._has_run_network = False
        for kind in CAPTURE_KINDS:
            if not any(technique.is_live(kind, step) for technique in self.techniques):
                self.cache.release(kind)
        forgotten = self._clock - PATIENCE
        self.cache.forget_unused(forgotten)
        for technique in self.techniques:
            technique.begin_step(step, self._clock, forgotten)


def _survivors(plan: BatchPlan) -> set[Hashable]:
    """Ids of the conds for which the network runs in a pass that drops a branch, or predicts all."""
    if plan.branch is None or not plan.runs_network:
        return set()
    return {cond.uuid for cond in plan.batch.conds(plan.branch)}
