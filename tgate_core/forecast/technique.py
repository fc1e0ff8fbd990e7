"""The forecast in one sampling run: predictions are kept of steps that ran, and made of them for steps that did not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from ..engine.identity import CondKey, Place
from ..engine.location import SMALLEST_NORM
from ..engine.storage import CacheSettings, detached, widened
from ..engine.technique import BatchPlan, FinishedBatch, Layout, RunContext, TechniqueRun
from .schedule import LEAST_STEPS, NEEDED_STEPS, ForecastConfig, first_late_step, forecast_steps, has_long_steps

# Names of the host's functions of samplers that evaluate each step once and add no noise. Measured one by one on the
# trained UNet: predictions lead these hardly astray, alone and beside refreshed guidance.
ONE_STEP_SAMPLERS = frozenset({"euler", "euler_cfg_pp"})
MULTISTEP_SAMPLERS = frozenset(
    {"deis", "dpmpp_2m", "gradient_estimation_cfg_pp", "ipndm_v", "lms", "res_multistep", "res_multistep_cfg_pp"}
    | {"unipc_bh2"}
)
SAMPLERS = ONE_STEP_SAMPLERS | MULTISTEP_SAMPLERS
# With noise between steps predictions lead astray, but less than a held guidance difference does: see docs/quality.md.
NOISY_ONE_STEP_SAMPLERS = frozenset({"euler_ancestral", "euler_ancestral_cfg_pp"})
NOISY_MULTISTEP_SAMPLERS = frozenset({"dpmpp_2m_sde", "dpmpp_2m_sde_gpu", "er_sde"})
PRESET_SAMPLERS = SAMPLERS | NOISY_ONE_STEP_SAMPLERS | NOISY_MULTISTEP_SAMPLERS
# By how much it is the denoised prediction that goes on there, and not the slope.
DENOISED_SHARE = {**dict.fromkeys(NOISY_ONE_STEP_SAMPLERS, 0.5), **dict.fromkeys(NOISY_MULTISTEP_SAMPLERS, 1.0)}
NOISY_SAMPLERS = frozenset(DENOISED_SHARE)
OTHER_SAMPLER = "Forecast: all steps run, as predictions are made with euler, dpmpp_2m and their kin alone"
LONG_STEPS = "Forecast: all steps run, as they are too long for predictions with this sampler: take more, or euler"
BESIDE_STEP_CACHE = "Forecast: {name} on the same model predicts steps of its own; all others run"
NO_STEP = "Forecast: no step of this run can be predicted: it has too few, start is not below end, or all are needed"
AUXILIARY = "Forecast: another node compares a pass of its own (as PAG, SAG or PerpNeg do), so all steps run"
GUESSED = "Forecast: another node put a guess in the network's place, so all other steps run"
NOT_AGAIN = "Forecast: what predictions are made of did not come up again at the same place of the run"


@dataclass(frozen=True)
class Forecast:
    """The forecast as a node has set it up."""

    config: ForecastConfig

    @property
    def cache_settings(self) -> CacheSettings | None:
        """Not for the forecast to say."""
        return None

    def begin(self, context: RunContext) -> ForecastRun:
        """State for one run."""
        return ForecastRun(self.config, context)


@dataclass(frozen=True)
class Seen:
    """What the network said of a branch in a step that ran.

    Attributes:
        step: the step.
        sigma: its noise level.
        way: its conds, and whether it ran on captures of both branches.
        denoised: what it said, (B, C, ...). A sampler that adds noise changes all but this.
        noise: (x - denoised) / sigma, same shape: the slope of the way that other samplers follow, which changes least.
    """

    step: int
    sigma: float
    way: tuple[tuple[CondKey, ...], bool]
    denoised: Tensor
    noise: Tensor

    def leads_to(self, later: Seen) -> bool:
        """Whether it went the same way, and the noise has fallen since."""
        return self.way == later.way and self.sigma > later.sigma


class ForecastRun(TechniqueRun):
    """The forecast in one run."""

    def __init__(self, config: ForecastConfig, context: RunContext) -> None:
        """
        Args:
            config: the settings.
            context: what the run is about.
        """
        self._config = config
        self._context = context
        # The last steps that ran, by place and branch.
        self._seen: dict[tuple[Place, int], tuple[Seen, ...]] = {}
        self._is_guessed = False
        # Presets have their own ways with multistep samplers.
        is_multistep = context.sampler in MULTISTEP_SAMPLERS and not config.by_preset
        self._first_late = first_late_step(context.sigmas) if is_multistep else context.steps

    @property
    def saves(self) -> bool:
        """Whether any step is predicted."""
        return bool(self.skipped)

    def lay_out(self, layout: Layout) -> None:
        """Steps that others need whole run, and all do where predictions cannot be made."""
        if self._obstacle is None:
            self.skipped = forecast_steps(self._config, self._context.sigmas, layout.needs_full)

    @property
    def _obstacle(self) -> str | None:
        """Why no step of the run is predicted, as far as that is known before it."""
        return why_not_predicted(self._context, self._config.by_preset)

    def opening_reasons(self, saves_nothing: bool) -> Iterable[str]:
        """A sampler, another node or settings that leave no step to predict."""
        if not self.skipped:
            yield self._obstacle or NO_STEP

    def closing_reasons(self) -> Iterable[str]:
        """Nothing may have come up again."""
        if self.skipped and not self._context.counts.skipped_passes:
            yield NOT_AGAIN

    @property
    def side_notes(self) -> frozenset[str]:
        """That no step is predicted says nothing of the others."""
        return frozenset() if self.skipped else frozenset({self._obstacle or NO_STEP})

    def begin_step(self, step: int, now: int, forgotten: int) -> None:
        """What is too old to go on from may go."""
        last = step - self._config.most_in_a_row - 1
        self._seen = {key: seen for key, seen in self._seen.items() if seen[-1].step >= last}

    def plan(self, plan: BatchPlan) -> BatchPlan:
        """The network does not run in a step to predict, if no other technique builds on it."""
        if plan.step not in self.skipped or plan.is_relied_on or plan.is_repeated or self._is_disturbed:
            return plan
        branches = _alive(plan)
        if not branches or (len(branches) > 1 and plan.step >= self._first_late):
            return plan
        needed = NEEDED_STEPS if len(branches) > 1 or self._context.sampler in DENOISED_SHARE else LEAST_STEPS
        is_known = all(self._can_predict(plan, branch, needed) for branch in branches)
        return replace(plan, runs_network=False) if is_known and self._ran_together(plan, branches) else plan

    @property
    def _is_disturbed(self) -> bool:
        """Whether another node does what no prediction goes with."""
        reason = GUESSED if self._is_guessed else AUXILIARY if self._context.auxiliary_uuids else None
        if reason is not None:
            self._context.counts.note(reason)
        return reason is not None

    def _can_predict(self, plan: BatchPlan, branch: int, needed: int) -> bool:
        """Whether a branch ran in steps that lie close, at this place, with these conds, each with less noise."""
        seen = self._seen.get((plan.batch.place, branch), ())[-needed:]
        if len(seen) < needed or seen[-1].way != _way(plan, branch):
            return False
        steps, most = [*(one.step for one in seen), plan.step], self._config.most_in_a_row
        is_close = steps[-1] - steps[-2] <= most and all(after - one <= most + 1 for one, after in pairwise(steps))
        return is_close and seen[-1].sigma > self._context.sigmas[plan.step]

    def _ran_together(self, plan: BatchPlan, branches: Sequence[int]) -> bool:
        """Whether branches were seen in the same steps: their difference in others is none of guidance."""
        seen = (self._seen[plan.batch.place, branch] for branch in branches)
        return len({tuple(one.step for one in steps) for steps in seen}) == 1

    def finish(self, done: FinishedBatch, predictions: list[Tensor]) -> list[Tensor]:
        """After a step that ran its predictions are kept; in one that did not they are made."""
        plan = done.plan
        if not plan.runs_network:
            return self._predicted(done)
        if not done.has_run:
            self._is_guessed = True
            self._seen.clear()
        elif done.sigma > 0:
            for branch in _alive(plan):
                self._keep(done, branch, predictions[branch])
        return predictions

    def _keep(self, done: FinishedBatch, branch: int, prediction: Tensor) -> None:
        plan, key = done.plan, (done.plan.batch.place, branch)
        denoised = widened(detached(prediction))
        noise = (widened(detached(done.x)) - denoised) / done.sigma
        seen = Seen(plan.step, done.sigma, _way(plan, branch), denoised, noise)
        before = [one for one in self._seen.get(key, ()) if one.step < plan.step and one.leads_to(seen)]
        self._seen[key] = (*before[1 - NEEDED_STEPS :], seen)

    def _predicted(self, done: FinishedBatch) -> list[Tensor]:
        """Denoised predictions of the branches that are alive; zeros for the others, as the host has them."""
        predictions = [torch.zeros_like(done.x) for _ in done.plan.batch.branches]
        first, *others = _alive(done.plan)
        seen = {branch: self._seen[done.plan.batch.place, branch] for branch in (first, *others)}
        steps = (*(one.step for one in seen[first]), done.plan.step)
        noise = followed([one.noise for one in seen[first]], steps)
        if (share := DENOISED_SHARE.get(self._context.sampler)) is not None:
            denoised = followed([one.denoised for one in seen[first]], steps)
            noise = torch.lerp(noise, (done.x - denoised) / done.sigma, share)
        predictions[first] = (done.x - done.sigma * noise).to(done.x.dtype)
        for branch in others:
            differences = [one.noise - main.noise for one, main in zip(seen[branch], seen[first], strict=True)]
            other_noise = noise + followed(differences, steps)
            predictions[branch] = (done.x - done.sigma * other_noise).to(done.x.dtype)
        return predictions

    def close(self) -> None:
        """Let go of what was kept."""
        self._seen.clear()


def why_not_predicted(context: RunContext, by_preset: bool = False) -> str | None:
    """Why no step of a run can be predicted, as far as that is known before it; None where steps can.

    Args:
        context: what the run is about.
        by_preset: also with samplers that add noise, and where steps are long.
    """
    if context.step_cache:
        return BESIDE_STEP_CACHE.format(name=context.step_cache)
    if context.sampler not in (PRESET_SAMPLERS if by_preset else SAMPLERS):
        return OTHER_SAMPLER
    if by_preset or context.sampler in ONE_STEP_SAMPLERS:
        return None
    return LONG_STEPS if has_long_steps(context.sigmas) else None


def followed(seen: Sequence[Tensor], steps: Sequence[int]) -> Tensor:
    """What follows, of order 1 as far as that has held before: what does not go on in a line is held.

    The last change is followed by the root of the share, from 0 to 1 and of each picture, at which the change before it
    would have led here best: that share alone is too small, as both changes are noisy.

    Args:
        seen: what was in the last three steps that ran, each (B, C, ...); of two alone, all of the change is followed.
        steps: these steps, and the one to predict.
    """
    older, newer = seen[-2:]
    if len(seen) < NEEDED_STEPS:
        return torch.lerp(older, newer, 1 + _reach(steps))
    oldest = seen[-NEEDED_STEPS]
    expected, change = (older - oldest) * _reach(steps[:3]), newer - older
    dimensions = tuple(range(1, change.ndim))
    norm = expected.square().sum(dimensions, keepdim=True).clamp_min(SMALLEST_NORM)
    share = ((change * expected).sum(dimensions, keepdim=True) / norm).clamp(0, 1).sqrt()
    return torch.addcmul(newer, share, change, value=_reach(steps))


def _reach(steps: Sequence[int]) -> float:
    """How far the last of some steps lies from the one before it, of what that lies from the one before."""
    older, newer, step = steps[-3:]
    return (step - newer) / (newer - older)


def _alive(plan: BatchPlan) -> list[int]:
    """The branches that a plan asks the network for; none where one of them has no cond in this step."""
    asked = [branch for branch, conds in enumerate(plan.batch.branches) if conds is not None]
    alive = asked if plan.branch is None else [plan.branch]
    return alive if all(plan.batch.conds(branch) for branch in alive) else []


def _way(plan: BatchPlan, branch: int) -> tuple[tuple[CondKey, ...], bool]:
    return plan.batch.conds(branch), plan.uses_merged_captures
