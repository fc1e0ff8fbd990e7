"""The start of a sampling run: settings and schedule become a run state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from ..config import GateConfig
from ..presets import PresetConfig
from ..run import Run
from ..steps import resolve_gate_step
from ..storage import CaptureStorage
from .keys import DEEP_CACHE_KEY, SETTINGS_KEY
from .memory import is_memory_short

NO_GUIDANCE = "no guidance to drop: this run has one branch alone (cfg 1)"
# What a run without T-GATE, but with DeepCache, has for settings.
_NO_GATE = GateConfig(cross_attention=False, self_attention=False, guidance="keep")


def start_run(guider: Any, sigmas: torch.Tensor, latent_shape: torch.Size) -> Run | None:
    """State of a run that is about to begin; None for one without a single step.

    Args:
        guider: the host's guider, which holds the model with the settings, and cfg.
        sigmas: the run's noise levels, (N + 1,).
        latent_shape: shape of what is denoised, (B, C, H, W) or more dimensions.
    """
    schedule = [float(sigma) for sigma in sigmas.tolist()]
    if len(schedule) < 2:
        return None
    options = guider.model_options["transformer_options"]
    config, gate_step = _resolve_gate(options.get(SETTINGS_KEY), guider, schedule)
    storage = CaptureStorage(config.cache_device, is_memory_short)
    run = Run(config, schedule, gate_step, storage, latent_shape, options.get(DEEP_CACHE_KEY))
    if run.schedule.has_gate and config.guidance != "keep" and not _has_guidance(guider):
        run.statistics.note(NO_GUIDANCE)
    return run


def _resolve_gate(
    settings: GateConfig | PresetConfig | None, guider: Any, schedule: Sequence[float]
) -> tuple[GateConfig, int]:
    """T-GATE's settings for a run on this schedule of noise levels, and its gate step."""
    steps = len(schedule) - 1
    if settings is None:
        return _NO_GATE, steps
    config = settings
    if isinstance(config, PresetConfig):
        config = config.resolve(steps, has_guidance=_has_guidance(guider))
    model_sampling = guider.model_patcher.get_model_object("model_sampling")
    return config, resolve_gate_step(config, schedule, model_sampling.percent_to_sigma)


def _has_guidance(guider: Any) -> bool:
    """Whether the run guides one branch by another; with cond and uncond alone, the host leaves that out at cfg 1."""
    if set(guider.conds) == {"positive", "negative"}:
        return not math.isclose(getattr(guider, "cfg", 0.0), 1.0)
    return len(guider.conds) > 1
