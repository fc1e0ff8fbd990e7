"""The start of a sampling run: settings and schedule become a run state."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ..config import GateConfig
from ..presets import PresetConfig
from ..probe import Probe
from ..run import Run
from ..steps import resolve_gate_step
from ..storage import CaptureStorage
from .families import network_signature
from .keys import DEEP_CACHE_KEY, MEASURED_KEY, PROBE_KEY, SETTINGS_KEY, STEP_CACHE_KEY
from .memory import is_memory_short
from .reporting import TELL_US, harmless

NO_GUIDANCE = "no guidance to drop: this run has one branch alone (cfg 1)"
NOT_MEASURED = "the probe measured nothing: it measures runs that TGATE and DeepCache leave as they are"
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
        deep_cache=options.get(DEEP_CACHE_KEY),
        site_gates=gate.site_gates,
        is_measured=probe is not None,
        is_watched=not _is_of_host(sampler),
    )
    if run.schedule.has_gate and config.guidance != "keep" and not _has_guidance(guider):
        run.statistics.note(NO_GUIDANCE)
    if probe is not None and run.measurement is None:
        run.statistics.note(NOT_MEASURED)
    if gate.has_not_settled:
        run.statistics.note(NOT_SETTLED)
    step_cache = options.get(STEP_CACHE_KEY)
    if step_cache is not None and not run.is_plain:
        run.statistics.note(STEP_CACHE.format(name=getattr(step_cache, "name", "EasyCache")))
    return run


def _is_of_host(sampler: Any) -> bool:
    """Whether a sampler is one of ComfyUI's own, none of which moves the latent between its calls of the model."""
    function = getattr(sampler, "sampler_function", sampler)
    module = getattr(function, "__module__", None) or type(function).__module__
    return module.partition(".")[0] in ("comfy", "comfy_extras")


def deliver_measurement(guider: Any, run: Run) -> None:
    """Hand what was measured in a run that is done to the probe on its model, if there is one.

    Where measuring failed the probe holds nothing, rather than what an older run left in it.
    """
    probe: Probe | None = guider.model_options["transformer_options"].get(PROBE_KEY)
    if probe is None or run.measurement is None:
        return
    probe.profile = None
    with harmless("measuring this run", f"The probe holds no measurement: sample again; if that fails too, {TELL_US}"):
        network = guider.model_patcher.model.diffusion_model
        probe.profile = run.measurement.profile(type(network).__name__, network_signature(network))


@dataclass(frozen=True)
class _Gate:
    """Where a run is gated: its settings, its gate step, gate steps of single cross-attentions by `Site.name`."""

    config: GateConfig
    step: int
    site_gates: Mapping[str, int] = field(default_factory=dict)
    has_not_settled: bool = False


def _resolve_gate(options: dict[str, Any], guider: Any, schedule: Sequence[float]) -> _Gate:
    """T-GATE's settings for a run on this schedule of noise levels.

    Raises:
        ValueError: the gate is to be as measured, and nothing was measured, or another model was.
    """
    settings: GateConfig | PresetConfig | None = options.get(SETTINGS_KEY)
    steps = len(schedule) - 1
    if settings is None:
        return _Gate(_NO_GATE, steps)
    config = settings
    if isinstance(config, PresetConfig):
        config = config.resolve(steps, has_guidance=_has_guidance(guider))
    if config.gate_unit == "measured":
        return _measured_gate(config, options.get(MEASURED_KEY), guider, schedule)
    model_sampling = guider.model_patcher.get_model_object("model_sampling")
    return _Gate(config, resolve_gate_step(config, schedule, model_sampling.percent_to_sigma))


def _measured_gate(config: GateConfig, probe: Probe | None, guider: Any, schedule: Sequence[float]) -> _Gate:
    profile = None if probe is None else probe.profile
    if profile is None:
        raise ValueError(NOTHING_MEASURED)
    network = guider.model_patcher.model.diffusion_model
    if profile.signature != network_signature(network):
        raise ValueError(
            f"TGATE: the probe was measured on another model ({profile.network}, this is {type(network).__name__}); "
            "measure this one with TGATE Probe, or choose another gate_unit."
        )
    step = profile.step_in(schedule, profile.gate_step(config.gate))
    sites = {site: profile.step_in(schedule, gate) for site, gate in profile.site_gate_steps(config.gate).items()}
    return _Gate(config, step, sites, has_not_settled=step >= len(schedule) - 1)


def _has_guidance(guider: Any) -> bool:
    """Whether any step may guide one branch by another; with cond and uncond alone, the host does not at cfg 1."""
    branches = {name for name, conds in guider.conds.items() if conds}
    if branches == {"positive", "negative"}:
        return not _is_always_one(getattr(guider, "cfg", None))
    return len(branches) > 1


def _is_always_one(cfg: Any) -> bool:
    """Whether a guider's scale is 1 throughout; some packs' guiders have one for each step, or none."""
    try:
        scales = torch.as_tensor(cfg, device="cpu").flatten().tolist()
        return bool(scales) and all(math.isclose(scale, 1.0) for scale in scales)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # no number: what it means only its guider knows
        return False
