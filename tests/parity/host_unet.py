"""The image UNets as ComfyUI's own classes."""

from __future__ import annotations

from typing import Any

import comfy.model_patcher
import comfy.supported_models
import comfy.utils
import torch
from host_models import SamplingJob, make_patcher
from parity_cases import CONTEXT_DIM, LATENT_CHANNELS, POOLED_DIM, Case, make_inputs
from parity_unet import UNETS, UNetShape

SIZE_EMBEDDINGS = 6 * 256  # width of SDXL's size embeddings, beside the pooled text
CLASSES = {"sd15": comfy.supported_models.SD15, "sdxl": comfy.supported_models.SDXL}


def unet_config(shape: UNetShape) -> dict[str, Any]:
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


def unet_places(config: dict[str, Any]) -> dict[str, str]:
    """The host's name of each parameter, by its diffusers name."""
    # Two diffusers names stand for the host's one label embedding; these models have the added kind.
    pairs = comfy.utils.unet_to_diffusers(config).items()
    return {diffusers: host for diffusers, host in pairs if not diffusers.startswith("class_embedding.")}


def build_model(model: str) -> comfy.model_patcher.ModelPatcher:
    config = unet_config(UNETS[model])
    places = {diffusers: (host, None) for diffusers, host in unet_places(config).items()}
    return make_patcher(model, CLASSES[model](config), places)


def sampling_job(patcher: comfy.model_patcher.ModelPatcher, model: str, case: Case) -> SamplingJob:
    """A case with its conditioning as text encoder nodes hand it on."""
    inputs = make_inputs(model, case)

    def conditioning(text: Any, pooled: Any, size: tuple[int, int]) -> list[Any]:
        sizes = {"height": size[0], "width": size[1]}
        target = {"target_height": inputs.target_size[0], "target_width": inputs.target_size[1]}
        return [[torch.from_numpy(text), {"pooled_output": torch.from_numpy(pooled), **sizes, **target}]]

    return SamplingJob(
        patcher,
        torch.from_numpy(inputs.noise),
        case.cfg,
        positive=conditioning(inputs.positive, inputs.positive_pooled, inputs.positive_size),
        negative=conditioning(inputs.negative, inputs.negative_pooled, inputs.negative_size),
    )
