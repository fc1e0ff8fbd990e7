"""What the presets of TGATE Apply mean in a run, as data.

`as published` is the paper's: arXiv 2404.02747 v2 (tables 1 to 3), the published package's own examples, and its
appendix L for families without a published row (m = 3/5 n, k = n/5). The others spend a budget: as many steps as fit
into it run whole, with both branches, and the others are predicted. With rectified flow a difference of predicted
branches leads astray where few steps run: there, and where no step can be predicted, as many steps are guided as fit,
and their difference is held in between. Budgets and how they are spent were chosen on half of the prompts of `bench
quality`; `docs/quality.md` has the other half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

from .engine.inputs import choice
from .engine.steps import round_half_up
from .engine.storage import CacheSettings
from .engine.technique import RunContext, Technique
from .forecast.schedule import ForecastConfig, first_late_step, forecast_steps, has_long_steps
from .forecast.technique import MULTISTEP_SAMPLERS, NOISY_SAMPLERS, PRESET_SAMPLERS, Forecast, why_not_predicted
from .gate.config import GateConfig, Scope
from .gate.refresh import spread_steps
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
        with_noise: where the sampler adds noise.
        without_forecast: where no step can be predicted, or few, as steps are long.
    """

    share: float
    with_noise: float
    without_forecast: float


BUDGETS: dict[PresetName, Budget] = {
    "balanced": Budget(share=0.62, with_noise=0.62, without_forecast=0.62),
    "gentle": Budget(share=0.72, with_noise=0.72, without_forecast=0.72),
    "fast": Budget(share=0.4, with_noise=0.45, without_forecast=0.55),
}
LEAST_GUIDED = 1
# Most predicted steps in a row, and shares of a run after which none is: with noise, and with rectified flow.
STRENGTH, NOISY_END, FLOW_END = 3, 0.88, 0.72
# Of steps to predict beside a held difference.
HELD_FORECAST = ForecastConfig(strength=2, start=0.0, end=0.88, by_preset=True)
# With rectified flow no noise level is higher. Predictions of both branches need so many steps that run there, and more
# with a multistep sampler, which multiplies how they jump.
MOST_NOISE_OF_FLOW = 1.0
LEAST_RUNNING, LEAST_RUNNING_OF_MULTISTEP = 14, 18
# Shorter runs with rectified flow need this much of the plain run.
SHORT_RUN, LEAST_SHARE_OF_SHORT_RUN = 25, 0.45
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

    def resolve(self, sigmas: Sequence[float], has_guidance: bool, sampler: str = "euler") -> PresetPlan:
        """Settings for one run.

        Args:
            sigmas: the run's schedule of N + 1 noise levels.
            has_guidance: whether the run uses classifier-free guidance (cfg other than 1).
            sampler: its name, "" where no step can be predicted.
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
        if sampler in NOISY_SAMPLERS:
            return PresetPlan(None, spread_within(steps, budget.with_noise, NOISY_END, is_even=True))
        if sampler in MULTISTEP_SAMPLERS and has_long_steps(sigmas) and first_late_step(sigmas) < steps - 1:
            return held_within(sigmas, budget.without_forecast, HELD_FORECAST)
        if sigmas[0] <= MOST_NOISE_OF_FLOW:
            return within_flow(sigmas, budget.share, is_multistep=sampler in MULTISTEP_SAMPLERS)
        return PresetPlan(None, spread_within(steps, budget.share, 1.0))


def within_flow(sigmas: Sequence[float], share: float, is_multistep: bool) -> PresetPlan:
    """Whole steps and predicted ones where enough run, else a difference that is held.

    Args:
        sigmas: the run's schedule of N + 1 noise levels.
        share: what may run, of the plain run's rows.
        is_multistep: whether the sampler builds on predictions of earlier steps.
    """
    steps = len(sigmas) - 1
    forecast = spread_within(steps, share, FLOW_END)
    running = steps - len(forecast_steps(forecast, sigmas))
    least = LEAST_RUNNING_OF_MULTISTEP if is_multistep else LEAST_RUNNING
    if least <= running <= steps * share + ROUNDING:
        return PresetPlan(None, forecast)
    return held_within(sigmas, max(share, LEAST_SHARE_OF_SHORT_RUN) if steps < SHORT_RUN else share, HELD_FORECAST)


def held_within(sigmas: Sequence[float], share: float, forecast: ForecastConfig | None) -> PresetPlan:
    """As many guided steps as fit, the guidance difference held in between.

    Args:
        sigmas: the run's schedule of N + 1 noise levels.
        share: what may run, of the plain run's rows.
        forecast: which of the other steps are predicted; None: none is.
    """
    steps = len(sigmas) - 1

    def rows(guided: int) -> int:
        placed = frozenset(spread_steps(steps, guided))
        predicted = forecast_steps(forecast, sigmas, placed) if forecast else ()
        return len(placed) + steps - len(predicted)

    most = 2 * steps * share + ROUNDING
    # Each guided step is two rows; where nothing is predicted, all others are one each.
    first = int(most / 2) if forecast else int(most) - steps
    fitting = (guided for guided in range(min(first, steps), LEAST_GUIDED, -1) if rows(guided) <= most)
    guided = next(fitting, LEAST_GUIDED)
    placed = spread_steps(steps, guided)
    gate = GateConfig(
        gate=next((step for step in range(steps) if step not in placed), steps),
        sp_interval=1,
        warm_up=0,
        self_attention=False,
        guidance="cached_delta",
        refresh="growing gaps",
        guided_steps=guided,
    )
    return PresetPlan(gate, forecast)


def spread_within(steps: int, share: float, end: float, is_even: bool = False) -> ForecastConfig:
    """As many steps as fit run whole, spread over the run; the others are predicted.

    Args:
        steps: of the run.
        share: what may run, of the plain run's rows.
        end: share of the run after which no step is predicted.
        is_even: whether they are spread without a look at noise levels.
    """
    running = max(1, int(steps * share + ROUNDING))
    return ForecastConfig(STRENGTH, 0.0, end, running=running, is_even=is_even, by_preset=True)


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
        gate, forecast = self.config.resolve(context.sigmas, context.has_guidance, sampler)
        made: list[Technique] = []
        if gate is not None:
            made.append(Gate(gate if self.scope == "all" else guidance_of(gate)))
        if forecast is not None:
            made.append(Forecast(forecast))
        return made


def guidance_of(config: GateConfig) -> GateConfig:
    """What a preset does to a network of which no attention can be frozen: to guidance alone."""
    return replace(config, cross_attention=False, self_attention=False)
