"""The ComfyUI side of the parity check: the same models and inputs, sampled through the real host."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import comfy.model_patcher
import comfy.sample
import comfy.samplers
import host_pixart
import host_svd
import host_unet
import torch
from parity_cases import Case
from safetensors.torch import load_file
from torch import Tensor

# Each kind of model is a module with `build_model` and `sampling_job`.
KINDS = {
    "sd15": host_unet,
    "sdxl": host_unet,
    "pixart_alpha": host_pixart,
    "pixart_sigma": host_pixart,
    "svd": host_svd,
}


@dataclass(frozen=True)
class PublishedRun:
    """Final latents (batch or frames, 4, height, width) of the published package by case, and the sigmas they were
    made on."""

    sigmas: Tensor
    latents: dict[str, Tensor]


def load_published(path: Path) -> PublishedRun:
    tensors = load_file(path)
    return PublishedRun(tensors.pop("sigmas"), tensors)


def build_model(model: str) -> comfy.model_patcher.ModelPatcher:
    """The host's own class of this model, every weight drawn from its diffusers name."""
    return KINDS[model].build_model(model)


def sample_case(patcher: comfy.model_patcher.ModelPatcher, model: str, case: Case, sigmas: Tensor) -> Tensor:
    """Final latents (batch or frames, 4, height, width) of one run of the host's Euler sampler, in the sampler's own
    scale."""
    job = KINDS[model].sampling_job(patcher, model, case)
    samples = comfy.sample.sample_custom(
        job.patcher,
        job.noise,
        job.cfg,
        comfy.samplers.sampler_object("euler"),
        sigmas,
        job.positive,
        job.negative,
        torch.zeros_like(job.noise),
        disable_pbar=True,
        seed=0,
    )
    return patcher.model.process_latent_in(samples)
