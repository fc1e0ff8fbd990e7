"""The start of a sampling run: settings and schedule become a run state."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch

from ..config import GateConfig
from ..presets import PresetConfig
from ..run import Run
from ..steps import resolve_gate_step
from ..storage import CaptureStorage
from .memory import is_memory_short

logger = logging.getLogger(__name__)


def start_run(
    settings: GateConfig | PresetConfig, guider: Any, sigmas: torch.Tensor, latent_shape: torch.Size
) -> Run | None:
    """State of a run that is about to begin; None where the settings leave it as it would be without T-GATE.

    Args:
        settings: what the node put on the model.
        guider: the host's guider, which holds the model and cfg.
        sigmas: the run's noise levels, (N + 1,).
        latent_shape: shape of what is denoised, (B, C, H, W) or more dimensions.
    """
    schedule = [float(sigma) for sigma in sigmas.tolist()]
    if len(schedule) < 2:
        return None
    config = settings
    if isinstance(config, PresetConfig):
        config = config.resolve(len(schedule) - 1, has_guidance=_has_guidance(guider))
    model_sampling = guider.model_patcher.get_model_object("model_sampling")
    gate_step = resolve_gate_step(config, schedule, model_sampling.percent_to_sigma)
    run = Run(config, schedule, gate_step, CaptureStorage(config.cache_device, is_memory_short), latent_shape)
    if run.is_plain:
        logger.info("TGATE: gate at step %s of %s: nothing is changed in this run", gate_step, len(schedule) - 1)
        return None
    return run


def _has_guidance(guider: Any) -> bool:
    """Whether the run guides one branch by another; with cond and uncond alone, the host leaves that out at cfg 1."""
    if set(guider.conds) == {"positive", "negative"}:
        return not math.isclose(getattr(guider, "cfg", 0.0), 1.0)
    return len(guider.conds) > 1
