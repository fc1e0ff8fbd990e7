"""Noise levels of a run that has not begun, as the host's samplers will take them."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import torch
from comfy import samplers, supported_models
from comfy.model_base import ModelType, model_sampling

from ..report.preview import NoiseLevels, NoiseSchedule
from .networks import PLAYGROUND

# Of each family with published settings, what its noise is like: the host's settings and kind of model. Other families'
# models differ among each other.
_SAMPLING: dict[str, tuple[Any, ModelType]] = {
    "sd15": (supported_models.SD15, ModelType.EPS),
    "sd21": (supported_models.SD20, ModelType.EPS),
    "sdxl": (supported_models.SDXL, ModelType.EPS),
    # The host reads these from the model's file.
    PLAYGROUND: (
        SimpleNamespace(sampling_settings={"sigma_data": 0.5, "sigma_max": 80.0, "sigma_min": 0.002}),
        ModelType.EDM,
    ),
    "svd": (supported_models.SVD_img2vid, ModelType.V_PREDICTION_EDM),
    "pixart": (supported_models.PixArtAlpha, ModelType.EPS),
}
_ROUNDING = 1e-6  # of shares that were divided by a browser
# Of a whole schedule of which a run is a small part; more would take seconds.
MOST_STEPS = 10_000


def noise_levels(family: str, schedule: NoiseSchedule) -> NoiseLevels | None:
    """What the host's sampler will go through; None where the family, or what its scheduler does, is not known."""
    if family not in _SAMPLING or schedule.scheduler not in samplers.SCHEDULER_HANDLERS:
        return None
    all_steps = int(schedule.steps / (schedule.end - schedule.begin) + _ROUNDING)
    if all_steps > MOST_STEPS:
        return None
    noise = model_sampling(*_SAMPLING[family])
    try:
        sigmas = _sigmas(noise, schedule, all_steps)
    except Exception:  # schedulers of other packs do what they like, and some of the host's fail at few steps
        return None
    run = tuple(_part(sigmas, schedule, all_steps).tolist())
    if len(run) < 2 or not all(map(math.isfinite, run)):
        return None
    return NoiseLevels(run, noise.percent_to_sigma)


def _part(sigmas: torch.Tensor, schedule: NoiseSchedule, steps: int) -> torch.Tensor:
    """A run's part of a whole schedule of so many steps; schedulers may give some more, of which the host takes all."""
    if schedule.end == 1.0:
        return sigmas if schedule.begin == 0.0 else sigmas[-(schedule.steps + 1) :]
    first = int(schedule.begin * steps + _ROUNDING)
    return sigmas[first : first + schedule.steps + 1]


def _sigmas(noise: Any, schedule: NoiseSchedule, steps: int) -> torch.Tensor:
    """Levels (N + 1,) of the whole schedule, as KSampler or a scheduler's node takes them."""
    if schedule.is_custom or schedule.sampler not in samplers.KSampler.DISCARD_PENULTIMATE_SIGMA_SAMPLERS:
        return samplers.calculate_sigmas(noise, schedule.scheduler, steps)
    sigmas = samplers.calculate_sigmas(noise, schedule.scheduler, steps + 1)
    return torch.cat([sigmas[:-2], sigmas[-1:]])
