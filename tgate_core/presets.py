"""What the presets of TGATE Apply mean in a run, as data.

`as published` is the paper's: arXiv 2404.02747 v2 (tables 1 to 3), the published package's own examples, and its
appendix L for families without a published row (m = 3/5 n, k = n/5). The others spend a budget: as many steps as fit
into it run whole, with both branches, and the others are predicted. Where few steps run, and where a multistep
sampler's are long, the gate comes late: behind it the guidance difference is held. With rectified flow it is held from
the start where few steps run and with `er_sde`, and so it is where no step can be predicted; it is renewed as often as
the budget allows. Budgets and how they are spent were chosen on half of the prompts of `bench quality`;
`docs/quality.md` has the other half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

from .engine.inputs import choice
from .engine.steps import round_half_up
from .engine.storage import CacheSettings
from .engine.technique import RunContext, Technique
from .forecast.schedule import (
    GROWTH_POWER,
    LATE_GATE_POWER,
    ForecastConfig,
    at_growing_gaps,
    first_late_step,
    forecast_steps,
    has_long_steps,
    longest_gap,
)
from .forecast.technique import (
    MULTISTEP_SAMPLERS,
    NOISY_SAMPLERS,
    PRESET_SAMPLERS,
    Forecast,
    why_not_predicted,
)
from .gate.config import GateConfig, Scope
from .gate.refresh import last_refresh_step, spread_steps
from .gate.technique import Gate

PresetName = Literal["balanced", "gentle", "fast", "as published"]
PRESETS: tuple[PresetName, ...] = get_args(PresetName)
PUBLISHED: PresetName = "as published"

# Runs of so few steps, and those at cfg 1, take the published few-step row.
FEW_STEPS = 8
GENERIC = "generic"


@dataclass(frozen=True)
class PublishedRow:
    """A published setting at a given number of steps; values scale with the number of steps of the run.

    `guidance` is what the published code does after the gate. For Stable Video Diffusion it goes on with the picture:
    what it takes for the negative image latents is encoded without guidance, and so holds the picture, not zeros.
    """

    steps: int
    gate: int
    sp_interval: int = 1
    warm_up: int = 0
    guidance: str = "uncond"

    def config(self, steps: int) -> GateConfig:
        """The same setting for a run of `steps` steps; a gate never rounds down to step 0."""
        scale = steps / self.steps
        is_gated = self.sp_interval > 1
        return GateConfig(
            gate=max(1, round_half_up(self.gate * scale)),
            sp_interval=max(2, round_half_up(self.sp_interval * scale)) if is_gated else 1,
            warm_up=round_half_up(self.warm_up * scale),
            self_attention=is_gated,
            guidance=self.guidance,
        )


_SD = PublishedRow(steps=25, gate=5)
_SDXL = PublishedRow(steps=25, gate=10, sp_interval=5, warm_up=2)

# By family of models.
PUBLISHED_ROWS: dict[str, PublishedRow] = {
    "sd15": _SD,
    "sd21": _SD,
    "sdxl": _SDXL,
    "playground-2.5": _SDXL,
    "svd": replace(_SDXL, guidance="cond_mean"),
    "pixart": PublishedRow(steps=25, gate=15, sp_interval=3, warm_up=2),
    GENERIC: PublishedRow(steps=25, gate=15, sp_interval=5, warm_up=2),
}
# Of four steps; the published preset takes its guidance from the family.
FEW_STEP_GATES: dict[PresetName, int] = {"balanced": 1, "gentle": 2, "fast": 1, PUBLISHED: 1}


@dataclass(frozen=True)
class Budget:
    """What a preset may run, as a share of the plain run's rows: a step counts once, a guided one twice.

    Attributes:
        share: where steps can be predicted.
        with_flow: where they can, with rectified flow.
        with_noise: where the sampler adds noise.
        without_forecast: where no step can be predicted.
    """

    share: float
    with_flow: float
    with_noise: float
    without_forecast: float


BUDGETS: dict[PresetName, Budget] = {
    "balanced": Budget(share=0.62, with_flow=0.62, with_noise=0.62, without_forecast=0.62),
    "gentle": Budget(share=0.72, with_flow=0.72, with_noise=0.72, without_forecast=0.72),
    "fast": Budget(share=0.35, with_flow=0.4, with_noise=0.45, without_forecast=0.55),
}
LEAST_GUIDED = 1
# Longest way from one whole step to the next.
LONGEST_GAP = 4
# Shares of a run from which on every step runs whole. With rectified flow late steps count for more, most with a
# multistep sampler; what a small budget leaves with noise lies farther apart.
END, FLOW_END, FLOW_END_OF_MULTISTEP, NOISY_FLOW_END = 0.8, 0.72, 0.64, 0.88
# With noise fewer steps follow without a gap: so much of what runs.
LAST_WITH_NOISE = 0.2
# Samplers with noise of which predictions of both branches lead astray with rectified flow.
HELD_WITH_FLOW = frozenset({"er_sde"})
# Of steps to predict beside a held difference.
HELD_FORECAST = ForecastConfig(strength=2, start=0.0, end=0.88, by_preset=True)
# With rectified flow no noise level is higher. Predictions of both branches need so many steps that run there, and more
# with a multistep sampler, which multiplies how they jump.
MOST_NOISE_OF_FLOW = 1.0
LEAST_RUNNING, LEAST_RUNNING_OF_MULTISTEP = 14, 18
# Shorter runs, and multistep samplers with long steps, need this much of the plain run.
SHORT_RUN, LEAST_SHARE_OF_SHORT_RUN, LEAST_SHARE_OF_LONG_STEPS = 25, 0.45, 0.5
# Against 0.62 * 50 being less than 31.
ROUNDING = 1e-9


class PresetPlan(NamedTuple):
    """A preset in one run; None: no gate, no step to predict."""

    gate: GateConfig | None
    forecast: ForecastConfig | None = None


@dataclass(frozen=True)
class PresetConfig:
    """A preset for a model family; what it means is settled when a run starts.

    Raises:
        ValueError: the preset does not exist.
    """

    family: str
    preset: PresetName = "balanced"

    def __post_init__(self) -> None:
        object.__setattr__(self, "preset", choice("preset", self.preset, PRESETS))

    @property
    def is_experimental(self) -> bool:
        """Whether there are no published settings for the family."""
        return self.family == GENERIC

    def resolve(
        self, sigmas: Sequence[float], has_guidance: bool, sampler: str = "euler", most_noise: float | None = None
    ) -> PresetPlan:
        """Settings for one run.

        Args:
            sigmas: the run's schedule of N + 1 noise levels.
            has_guidance: whether the run uses classifier-free guidance (cfg other than 1).
            sampler: its name, "" where no step can be predicted.
            most_noise: the model's highest noise level; None: the run begins there.
        """
        published, steps = PUBLISHED_ROWS[self.family], len(sigmas) - 1
        if steps <= FEW_STEPS or not has_guidance:
            guidance = published.guidance if self.preset == PUBLISHED else "cached_delta"
            return PresetPlan(PublishedRow(4, FEW_STEP_GATES[self.preset], guidance=guidance).config(steps))
        if self.preset == PUBLISHED:
            return PresetPlan(published.config(steps))
        budget = BUDGETS[self.preset]
        if sampler not in PRESET_SAMPLERS:
            return held_within(sigmas, budget.without_forecast, None)
        if (sigmas[0] if most_noise is None else most_noise) <= MOST_NOISE_OF_FLOW:
            return within_flow(sigmas, budget, sampler)
        is_noisy = sampler in NOISY_SAMPLERS
        share = budget.with_noise if is_noisy else _at_least(budget.share, steps)
        if _steps_are_long(sigmas, sampler):
            return late_gate(steps, max(share, LEAST_SHARE_OF_LONG_STEPS))
        running = int(steps * share + ROUNDING)
        whole = whole_steps(steps, running, 1 - LAST_WITH_NOISE * running / steps if is_noisy else END)
        return late_gate(steps, share) if whole is None else PresetPlan(None, whole)


def within_flow(sigmas: Sequence[float], budget: Budget, sampler: str) -> PresetPlan:
    """The plan for a run with rectified flow.

    Args:
        sigmas: the run's schedule of N + 1 noise levels.
        budget: what may run.
        sampler: its name.
    """
    steps = len(sigmas) - 1
    if sampler in HELD_WITH_FLOW:
        return held_within(sigmas, budget.with_noise, HELD_FORECAST)
    if sampler in NOISY_SAMPLERS:
        least = int(steps * budget.with_noise + ROUNDING)
        more = (whole_steps(steps, running, NOISY_FLOW_END) for running in range(least, steps))
        plans = (whole_steps(steps, least, FLOW_END), *more)
        return PresetPlan(None, next((plan for plan in plans if plan is not None), None))
    running, is_multistep = int(steps * budget.with_flow + ROUNDING), sampler in MULTISTEP_SAMPLERS
    if running >= (LEAST_RUNNING_OF_MULTISTEP if is_multistep else LEAST_RUNNING):
        whole = whole_steps(steps, running, FLOW_END_OF_MULTISTEP if is_multistep else FLOW_END)
        if whole is not None and not _steps_are_long(sigmas, sampler):
            return PresetPlan(None, whole)
    return held_within(sigmas, _at_least(budget.with_flow, steps), HELD_FORECAST)


def _at_least(share: float, steps: int) -> float:
    return max(share, LEAST_SHARE_OF_SHORT_RUN) if steps < SHORT_RUN else share


def _steps_are_long(sigmas: Sequence[float], sampler: str) -> bool:
    """Whether a multistep sampler's steps are long, and late ones longer still."""
    is_multistep = sampler in MULTISTEP_SAMPLERS
    return is_multistep and has_long_steps(sigmas) and first_late_step(sigmas) < len(sigmas) - 2


def whole_steps(steps: int, running: int, end: float) -> ForecastConfig | None:
    """So many steps run whole, and the others are predicted; None where more would have to run.

    Args:
        steps: of the run.
        running: how many of them run.
        end: share of the run from which on all do.
    """
    late = range(round_half_up(end * steps), steps)
    early = at_growing_gaps(running - len(late), late.start, GROWTH_POWER)
    placed = (*early, *late)
    if placed[0] > 0 or longest_gap(placed) > LONGEST_GAP:
        return None
    return ForecastConfig(running=placed, by_preset=True)


def late_gate(steps: int, share: float) -> PresetPlan:
    """As many whole steps as fit, close at first; behind the last of them one step or two run without guidance.

    Its difference must not jump late in a run: a multistep sampler multiplies that.

    Args:
        steps: of the run.
        share: what may run, of the plain run's rows.
    """
    rows = int(2 * steps * share + ROUNDING)
    # Two behind it where more than half of the plain run's rows run.
    behind = 2 if rows > steps else 1
    guided = at_growing_gaps(max(LEAST_GUIDED, (rows - behind) // 2), steps, LATE_GATE_POWER)
    gate, gap = guided[-1] + 1, steps - guided[-1]
    alone = min(rows - 2 * len(guided), gap - 1)
    unguided = (guided[-1] + round_half_up((index + 1) * gap / (alone + 1)) for index in range(alone))
    return PresetPlan(_holding(gate), ForecastConfig(running=(*guided, *unguided), by_preset=True))


def held_within(sigmas: Sequence[float], share: float, forecast: ForecastConfig | None) -> PresetPlan:
    """As many guided steps as fit, the guidance difference held in between.

    Args:
        sigmas: the run's schedule of N + 1 noise levels.
        share: what may run, of the plain run's rows.
        forecast: which of the other steps are predicted; None: none is.
    """
    steps, latest = len(sigmas) - 1, last_refresh_step(sigmas)

    def rows(guided: int) -> int:
        placed = frozenset(spread_steps(steps, guided, latest))
        predicted = forecast_steps(forecast, sigmas, placed) if forecast else ()
        return len(placed) + steps - len(predicted)

    most = 2 * steps * share + ROUNDING
    # Each guided step is two rows; where nothing is predicted, all others are one each.
    most_guided = int(most / 2) if forecast else int(most) - steps
    fitting = (guided for guided in range(min(most_guided, steps), LEAST_GUIDED, -1) if rows(guided) <= most)
    guided = next(fitting, LEAST_GUIDED)
    placed = spread_steps(steps, guided, latest)
    gate = next((step for step in range(steps) if step not in placed), steps)
    return PresetPlan(replace(_holding(gate), refresh="growing gaps", guided_steps=guided), forecast)


def _holding(gate: int) -> GateConfig:
    """A gate behind which cross-attention and the guidance difference are held."""
    return GateConfig(gate=gate, sp_interval=1, warm_up=0, self_attention=False, guidance="cached_delta")


@dataclass(frozen=True)
class Preset:
    """A preset as a node has put it on a model: techniques once a run starts.

    Attributes:
        config: which one, and for which family.
        scope: what of the network can be gated.
    """

    config: PresetConfig
    scope: Scope = "all"

    @property
    def cache_settings(self) -> CacheSettings:
        """Where captures are to live."""
        return CacheSettings()

    def within(self, scope: Scope) -> Preset | None:
        """What is left for a network of which only so much can be gated; None where nothing is."""
        is_impossible = self.config.preset == PUBLISHED and scope != "all"
        return None if is_impossible else replace(self, scope=scope)

    def techniques(self, context: RunContext) -> list[Technique]:
        """What it is in one run."""
        sampler = context.sampler if why_not_predicted(context, by_preset=True) is None else ""
        most_noise = context.percent_to_sigma(0.0)
        gate, forecast = self.config.resolve(context.sigmas, context.has_guidance, sampler, most_noise)
        made: list[Technique] = []
        if gate is not None:
            made.append(Gate(gate if self.scope == "all" else guidance_of(gate)))
        if forecast is not None:
            made.append(Forecast(forecast))
        return made


def guidance_of(config: GateConfig) -> GateConfig:
    """What a preset does to a network of which no attention can be frozen: to guidance alone."""
    return replace(config, cross_attention=False, self_attention=False)
