"""The start of a sampling run: settings and schedule become a run state."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ..config import GateConfig
from ..presets import PresetConfig
from ..probe import Probe
from ..reasons import GATE_BEYOND, NO_GUIDANCE, NO_SHALLOW_STEP, NOT_MEASURED, NOTHING_TO_REUSE, PROBE_MEASURES
from ..record import Fingerprint
from ..run import Run
from ..steps import resolve_gate_step
from ..storage import CaptureStorage
from .families import network_class, network_signature, why_not_gated
from .keys import DEEP_CACHE_KEY, MEASURED_KEY, PROBE_KEY, SETTINGS_KEY, STEP_CACHE_KEY
from .memory import is_memory_short

STEP_CACHE = (
    "{name} is on the same model: its guesses are no baseline for T-GATE, and it hardly skips a step once a branch is "
    "dropped; use one of the two"
)
NOT_SETTLED = "cross-attention never settled as the gate asks, so the gate lies beyond the run; raise gate"
NOTHING_MEASURED = (
    "TGATE: gate_unit is 'measured', but the probe holds no measurement yet; take the probe from TGATE Convergence "
    "Plot, which waits for the run that measures, or load one with TGATE Load Probe."
)
# What a run without T-GATE, but with DeepCache, has for settings.
_NO_GATE = GateConfig(cross_attention=False, self_attention=False, guidance="keep")


def start_run(guider: Any, sampler: Any, sigmas: torch.Tensor, latent_shape: torch.Size) -> Run | None:
    """State of a run that is about to begin; None for one without a single step.

    Args:
        guider: the host's guider, which holds the model with the settings, and cfg.
        sampler: the host's SAMPLER.
        sigmas: the run's noise levels, (N + 1,).
        latent_shape: shape of what is denoised, (B, C, H, W) or more dimensions.
    """
    schedule = [float(sigma) for sigma in sigmas.tolist()]
    if len(schedule) < 2:
        return None
    options = guider.model_options["transformer_options"]
    gate = _resolve_gate(options, guider, schedule)
    config, probe = gate.config, options.get(PROBE_KEY)
    storage = CaptureStorage(config.cache_device, is_memory_short)
    run = Run(
        config,
        schedule,
        gate.step,
        storage,
        latent_shape,
        deep_cache=None if gate.unreached else options.get(DEEP_CACHE_KEY),
        site_gates=gate.site_gates,
        is_measured=probe is not None and not gate.unreached,
        is_watched=not _is_of_host(sampler),
    )
    if probe is not None and run.measurement is not None:
        probe.clear()
    run.statistics.is_guided = _has_guidance(guider)
    for reason in _opening_reasons(run, gate, options):
        run.statistics.note(reason)
    if run.schedule.has_gate and config.guidance != "keep" and not run.statistics.is_guided:
        run.statistics.note(NO_GUIDANCE)
    step_cache = options.get(STEP_CACHE_KEY)
    if step_cache is not None and not run.is_plain:
        run.statistics.note(STEP_CACHE.format(name=getattr(step_cache, "name", "EasyCache")))
    return run


def _is_of_host(sampler: Any) -> bool:
    """Whether a sampler is one of ComfyUI's own, none of which moves the latent between its calls of the model."""
    function = getattr(sampler, "sampler_function", sampler)
    module = getattr(function, "__module__", None) or type(function).__module__
    return module.partition(".")[0] in ("comfy", "comfy_extras")


def _opening_reasons(run: Run, gate: _Gate, options: dict[str, Any]) -> Iterator[str]:
    """Why less is done than the nodes ask for, as far as that is known before the run begins."""
    if gate.unreached is not None:
        yield gate.unreached
        return
    if options.get(SETTINGS_KEY) is not None:
        if gate.has_not_settled:
            yield NOT_SETTLED
        elif not run.schedule.has_gate:
            yield GATE_BEYOND.format(steps=run.tracker.steps)
        elif run.saves_nothing:
            yield NOTHING_TO_REUSE
    if options.get(DEEP_CACHE_KEY) is not None and not run.deep.shallow:
        yield NO_SHALLOW_STEP
    if options.get(PROBE_KEY) is not None:
        yield NOT_MEASURED if run.measurement is None else PROBE_MEASURES


def deliver_measurement(guider: Any, run: Run, latent: torch.Tensor) -> None:
    """Hand what was measured in a run that is done, and made `latent`, to the probe on its model, if there is one."""
    probe: Probe | None = guider.model_options["transformer_options"].get(PROBE_KEY)
    if probe is not None and run.measurement is not None:
        patcher = guider.model_patcher
        probe.profile = run.measurement.profile(network_class(patcher).__name__, network_signature(patcher))
        probe.latent = Fingerprint.of(latent)


@dataclass(frozen=True)
class _Gate:
    """Where a run is gated.

    Attributes:
        config: its settings.
        step: its gate step.
        site_gates: gate steps of single cross-attentions, by `Site.name`.
        has_not_settled: whether a measured gate lies beyond the run.
        unreached: why the network is left alone; None where it is one that T-GATE knows.
    """

    config: GateConfig
    step: int
    site_gates: Mapping[str, int] = field(default_factory=dict)
    has_not_settled: bool = False
    unreached: str | None = None


def _resolve_gate(options: dict[str, Any], guider: Any, schedule: Sequence[float]) -> _Gate:
    """T-GATE's settings for a run on this schedule of noise levels.

    Raises:
        ValueError: the gate is to be as measured, and nothing was measured, or another model was.
    """
    settings: GateConfig | PresetConfig | None = options.get(SETTINGS_KEY)
    steps, unreached = len(schedule) - 1, why_not_gated(guider.model_patcher)
    if unreached is not None:
        # As the nodes do it where they meet such a network; here another node has put it there behind them.
        settings = _guidance_alone(settings)
    if settings is None:
        return _Gate(_NO_GATE, steps, unreached=unreached)
    config = settings
    if isinstance(config, PresetConfig):
        config = config.resolve(steps, has_guidance=_has_guidance(guider))
    if config.gate_unit == "measured":
        return _measured_gate(config, options.get(MEASURED_KEY), guider, schedule)
    model_sampling = guider.model_patcher.get_model_object("model_sampling")
    step = resolve_gate_step(config, schedule, model_sampling.percent_to_sigma)
    return _Gate(config, step, unreached=unreached)


def _guidance_alone(settings: GateConfig | PresetConfig | None) -> GateConfig | None:
    """What is left of the settings for a network whose attentions cannot be gated; None where nothing is."""
    if not isinstance(settings, GateConfig) or settings.guidance not in ("cond", "cached_delta"):
        return None
    if settings.gate_unit == "measured":
        return None
    return replace(settings, cross_attention=False, self_attention=False)


def _measured_gate(config: GateConfig, probe: Probe | None, guider: Any, schedule: Sequence[float]) -> _Gate:
    profile = None if probe is None else probe.profile
    if profile is None:
        raise ValueError(NOTHING_MEASURED)
    patcher = guider.model_patcher
    if profile.signature != network_signature(patcher):
        name = network_class(patcher).__name__
        raise ValueError(
            f"TGATE: the probe was measured on another model ({profile.network}, this is {name}); "
            "measure this one with TGATE Probe, or choose another gate_unit."
        )
    step = profile.step_in(schedule, profile.gate_step(config.gate))
    sites = {site: profile.step_in(schedule, gate) for site, gate in profile.site_gate_steps(config.gate).items()}
    return _Gate(config, step, sites, has_not_settled=step >= len(schedule) - 1)


def _has_guidance(guider: Any) -> bool:
    """Whether the run guides one branch by another; with cond and uncond alone, the host leaves that out at cfg 1."""
    if set(guider.conds) == {"positive", "negative"}:
        return not math.isclose(getattr(guider, "cfg", 0.0), 1.0)
    return len(guider.conds) > 1
