"""The start of a sampling run: what is on the model becomes the run's state."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch

from ..engine.cache import CaptureCache
from ..engine.counts import RunCounts
from ..engine.run import Run
from ..engine.storage import CacheSettings, CaptureStorage
from ..engine.technique import RunContext, Technique
from ..forecast.technique import Forecast, why_not_predicted
from ..gate.config import Scope
from ..gate.technique import Gate
from ..presets import Preset
from ..probe.technique import Probing
from .architectures import why_not_one_branch
from .keys import STEP_CACHE_KEY, TECHNIQUES_KEY
from .memory import is_memory_short
from .network_runs import step_cache_of
from .networks import network_class, network_signature, scope_of, why_not_gated

# The order in which techniques refine a plan: what comes later sees what those before it have decided. Guidance first,
# then whether and how deep the network runs, then who looks on; others last, nearest to the network.
GATE = "gate"
FORECAST = "forecast"
DEEP_CACHE = "deepcache"
PROBE = "probe"
PRECEDENCE = (GATE, FORECAST, DEEP_CACHE, PROBE)
# Ends of the names of samplers that look at both branches, at cfg 1 too.
SAMPLERS_OF_BOTH = ("_cfg_pp", "euler_pp")
# Those that have a say in single attentions.
ATTENTION_TECHNIQUES = frozenset({GATE, PROBE})
STEP_CACHE = (
    "{name} is on the same model: its guesses are no baseline for T-GATE, and it hardly skips a step once a branch is "
    "dropped; use one of the two"
)

SEVERAL_DEVICES = "several devices share the branches of guidance: a pass left out saves energy, hardly time"


def start_run(guider: Any, sampler: Any, sigmas: torch.Tensor, latent_shape: torch.Size) -> Run | None:
    """State of a run that is about to begin; None for one without a single step.

    Args:
        guider: the host's guider, which holds the model with the techniques, and cfg.
        sampler: the host's SAMPLER.
        sigmas: the run's noise levels, (N + 1,).
        latent_shape: shape of what is denoised, (B, C, H, W) or more dimensions.

    Raises:
        ValueError: a technique cannot be run as it was set up; the message says what to change.
    """
    schedule = tuple(float(sigma) for sigma in sigmas.tolist())
    if len(schedule) < 2:
        return None
    options = guider.model_options["transformer_options"]
    techniques, unreached = techniques_of(options), why_not_gated(guider.model_patcher)
    asked = len(techniques)
    if unreached is not None:
        techniques = _within(scope_of(guider.model_patcher), techniques)
    rows = latent_shape[0] * max((len(conds or ()) for conds in guider.conds.values()), default=1)
    one_branch = why_not_one_branch(network_class(guider.model_patcher), rows)
    if one_branch is not None:
        techniques = [one for one in techniques if not isinstance(one, (Gate, Preset))]
        unreached = one_branch
    is_gated = any(isinstance(one, (Gate, Preset)) for one in techniques)
    settings = next((one.cache_settings for one in techniques if one.cache_settings is not None), CacheSettings())
    context = _context(guider, sampler, schedule, settings)
    if unreached is not None and (len(techniques) < asked or is_gated):
        context.counts.note(unreached)
    run = Run(context, _settled(techniques, context), latent_shape, is_watched=not _is_of_host(sampler))
    if not run.is_plain:
        _note_neighbours(guider, run)
    return run


def _note_neighbours(guider: Any, run: Run) -> None:
    """What else is on the model that makes the run save less than it seems."""
    if STEP_CACHE_KEY in guider.model_options["transformer_options"]:
        run.counts.note(STEP_CACHE.format(name=run.context.step_cache))
    if guider.model_patcher.get_additional_models_with_key("multigpu"):
        run.counts.note(SEVERAL_DEVICES)


def techniques_of(transformer_options: dict[str, Any]) -> list[Technique | Preset]:
    """What is on a model, in order of precedence."""
    present: Mapping[str, Technique | Preset] = transformer_options.get(TECHNIQUES_KEY, {})
    known = [present[name] for name in PRECEDENCE if name in present]
    return known + [technique for name, technique in present.items() if name not in PRECEDENCE]


def _settled(techniques: Iterable[Technique | Preset], context: RunContext) -> list[Technique]:
    """Presets become what they are in this run; a node's forecast takes the place of theirs where it can predict."""
    settled: list[Technique] = []
    for one in techniques:
        settled += one.techniques(context) if isinstance(one, Preset) else [one]
    forecasts = [one for one in settled if isinstance(one, Forecast)]
    able = [one for one in forecasts if why_not_predicted(context, one.config.by_preset) is None]
    last = next(reversed(able or forecasts), None)
    return [one for one in settled if one is last or not isinstance(one, Forecast)]


def _within(scope: Scope, techniques: Iterable[Technique | Preset]) -> list[Technique | Preset]:
    """What is left of them where no attention can be frozen; another node may have put that network behind ours."""
    left = [one.within(scope) if isinstance(one, (Gate, Preset)) else one for one in techniques]
    suitable = (Gate, Preset, Forecast) if scope == "guidance alone" else (Gate, Preset, Forecast, Probing)
    return [one for one in left if isinstance(one, suitable)]


def _context(guider: Any, sampler: Any, sigmas: tuple[float, ...], settings: CacheSettings) -> RunContext:
    patcher = guider.model_patcher
    store = CaptureStorage(settings.device, is_memory_short)
    name = _sampler_name(sampler)
    return RunContext(
        sigmas=sigmas,
        has_guidance=_has_guidance(guider, name),
        cache=CaptureCache(store, settings.limit_mb * 2**20),
        counts=RunCounts(),
        store=store,
        settings=settings,
        percent_to_sigma=patcher.get_model_object("model_sampling").percent_to_sigma,
        network=network_class(patcher).__name__,
        signature=partial(network_signature, patcher),
        sampler=name,
        step_cache=step_cache_of(guider.model_options),
    )


def _sampler_name(sampler: Any) -> str:
    """The host's name of its own sampler; "" for any other, and where its settings add noise."""
    function = getattr(sampler, "sampler_function", None)
    name = getattr(function, "__name__", "")
    is_noisy = bool(getattr(sampler, "extra_options", {}).get("s_churn"))
    return name.removeprefix("sample_") if _is_of_host(sampler) and not is_noisy else ""


def _is_of_host(sampler: Any) -> bool:
    """Whether a sampler is one of ComfyUI's own, none of which moves the latent between its calls of the model."""
    function = getattr(sampler, "sampler_function", sampler)
    module = getattr(function, "__module__", None) or type(function).__module__
    return module.partition(".")[0] in ("comfy", "comfy_extras")


def _has_guidance(guider: Any, sampler: str) -> bool:
    """Whether any step may guide one branch by another; with cond and uncond alone, the host does not at cfg 1.

    Unless another node that looks at both, or the sampler, asks it to run them.
    """
    branches = {name for name, conds in guider.conds.items() if conds}
    runs_both = guider.model_options.get("disable_cfg1_optimization") or sampler.endswith(SAMPLERS_OF_BOTH)
    if branches == {"positive", "negative"} and not runs_both:
        return not _is_always_one(getattr(guider, "cfg", None))
    return len(branches) > 1


def _is_always_one(cfg: Any) -> bool:
    """Whether a guider's scale is 1 throughout; some packs' guiders have one for each step, or none."""
    try:
        scales = [cfg] if isinstance(cfg, (int, float)) else torch.as_tensor(cfg).flatten().tolist()
        return bool(scales) and all(math.isclose(scale, 1.0) for scale in scales)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # no number: what it means only its guider knows
        return False
