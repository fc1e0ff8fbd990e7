"""The ComfyUI side of the parity check: the same models and inputs, sampled through the real host."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.model_patcher
import comfy.sample
import comfy.samplers
import comfy.supported_models
import comfy.utils
import torch
from parity_cases import CONTEXT_DIM, LATENT_CHANNELS, POOLED_DIM, Case, ModelShape, make_inputs, weight
from safetensors.torch import load_file
from torch import Tensor

SIZE_EMBEDDINGS = 6 * 256  # width of SDXL's size embeddings, beside the pooled text
CLASSES = {"sd15": comfy.supported_models.SD15, "sdxl": comfy.supported_models.SDXL}


@dataclass(frozen=True)
class PublishedRun:
    """Final latents (batch, 4, height, width) of the published package by case, and the sigmas they were made on."""

    sigmas: Tensor
    latents: dict[str, Tensor]


def load_published(path: Path) -> PublishedRun:
    tensors = load_file(path)
    return PublishedRun(tensors.pop("sigmas"), tensors)


def unet_config(shape: ModelShape) -> dict[str, Any]:
    """A UNet of this shape in the host's terms."""
    return {
        "image_size": 32,
        "in_channels": LATENT_CHANNELS,
        "out_channels": LATENT_CHANNELS,
        "model_channels": shape.channels[0],
        "channel_mult": [channels // shape.channels[0] for channels in shape.channels],
        "num_res_blocks": [1] * len(shape.channels),
        "transformer_depth": list(shape.transformer_depth),
        "transformer_depth_output": [depth for depth in shape.transformer_depth for _ in range(2)],
        "transformer_depth_middle": max(1, shape.transformer_depth[-1]),
        "context_dim": CONTEXT_DIM,
        "num_heads": shape.heads[0],
        "use_spatial_transformer": True,
        "use_linear_in_transformer": shape.linear_projection,
        "use_temporal_attention": False,
        "legacy": False,
        "num_classes": "sequential" if shape.pooled else None,
        "adm_in_channels": SIZE_EMBEDDINGS + POOLED_DIM if shape.pooled else None,
    }


def diffusers_names(shape: ModelShape) -> dict[str, str]:
    """The diffusers name of each parameter, by the host's name."""
    pairs = comfy.utils.unet_to_diffusers(unet_config(shape)).items()
    # Two diffusers names stand for the host's one label embedding; these models have the added kind.
    return {host: diffusers for diffusers, host in pairs if not diffusers.startswith("class_embedding.")}


def build_model(shape: ModelShape) -> comfy.model_patcher.ModelPatcher:
    """The host's own class of this model, every weight drawn from its diffusers name."""
    device = comfy.model_management.get_torch_device()
    config = CLASSES[shape.name](unet_config(shape))
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, device=device)
    state = model.diffusion_model.state_dict()
    names = diffusers_names(shape)
    drawn = {name: torch.from_numpy(weight(shape.name, names[name], tuple(state[name].shape))) for name in state}
    model.diffusion_model.load_state_dict(drawn)
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=torch.device("cpu"))


def make_conditionings(model: str, case: Case) -> tuple[list[Any], list[Any]]:
    """Positive and negative conditioning of a case, as text encoder nodes hand them on."""
    inputs = make_inputs(model, case)

    def conditioning(text: Any, pooled: Any, size: tuple[int, int]) -> list[Any]:
        sizes = {"height": size[0], "width": size[1]}
        target = {"target_height": inputs.target_size[0], "target_width": inputs.target_size[1]}
        return [[torch.from_numpy(text), {"pooled_output": torch.from_numpy(pooled), **sizes, **target}]]

    return (
        conditioning(inputs.positive, inputs.positive_pooled, inputs.positive_size),
        conditioning(inputs.negative, inputs.negative_pooled, inputs.negative_size),
    )


def sample_case(patcher: comfy.model_patcher.ModelPatcher, model: str, case: Case, sigmas: Tensor) -> Tensor:
    """Final latents (batch, 4, height, width) of one run of the host's Euler sampler, in the sampler's own scale."""
    noise = torch.from_numpy(make_inputs(model, case).noise)
    positive, negative = make_conditionings(model, case)
    samples = comfy.sample.sample_custom(
        patcher,
        noise,
        case.cfg,
        comfy.samplers.sampler_object("euler"),
        sigmas,
        positive,
        negative,
        torch.zeros_like(noise),
        disable_pbar=True,
        seed=0,
    )
    return patcher.model.process_latent_in(samples)


def distance(ours: Tensor, reference: Tensor) -> float:
    """Largest difference in units of the reference's standard deviation; NaN where ours is not finite."""
    return float((ours - reference).abs().max() / reference.std())
