"""Multiply-accumulate operations of a whole sampling run, by kind of layer."""

from __future__ import annotations

import comfy.sample
import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher

from .models import FullSizeModel, blank_conditioning
from .shapes import Macs, counting


def count_macs(
    patcher: ModelPatcher,
    model: FullSizeModel,
    *,
    steps: int,
    cfg: float,
    sampler: str = "euler",
    scheduler: str = "normal",
) -> Macs:
    """Sample once through the host's sampler and count what the network does.

    Args:
        patcher: from `build_on_meta`, possibly patched by nodes.
        model: the architecture it was built from.
        steps: sampling steps.
        cfg: guidance scale; 1 leaves the second branch out.
        sampler: the host's name of a sampler.
        scheduler: the host's name of a scheduler.
    """
    sigmas = comfy.samplers.calculate_sigmas(patcher.get_model_object("model_sampling"), scheduler, steps)
    with counting() as macs:
        comfy.sample.sample_custom(
            patcher,
            torch.ones(model.latent_shape),
            cfg,
            comfy.samplers.sampler_object(sampler),
            sigmas,
            blank_conditioning(model),
            blank_conditioning(model),
            torch.zeros(model.latent_shape),
            disable_pbar=True,
            seed=0,
        )
    return macs
