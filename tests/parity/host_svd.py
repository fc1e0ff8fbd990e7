"""The video model as ComfyUI's own class.

Plain sampling differs from diffusers by 1e-4 of the standard deviation: there the residual blocks' norms have an
epsilon of 1e-6, and in ComfyUI, as in the model's first code, 1e-5. With the same epsilon it is 1e-5.
"""

from __future__ import annotations

import re
from typing import Any

import comfy.model_patcher
import comfy.supported_models
import torch
from comfy_extras.nodes_video_model import VideoLinearCFGGuidance
from host_models import SamplingJob, make_patcher
from host_unet import unet_places
from parity_cases import CONTEXT_DIM, LATENT_CHANNELS, Case
from parity_svd import (
    AUGMENTATION_LEVEL,
    CHANNELS,
    FIRST_FRAME_CFG,
    FPS,
    HEADS,
    MOTION_BUCKET_ID,
    TRANSFORMER_DEPTH,
    make_video_inputs,
)

NUMBER_EMBEDDINGS = 3 * 256  # of frame rate, motion and augmentation

# A residual block and what follows, as diffusers and as the host name them.
RESIDUAL_BLOCK = re.compile(r"(.+\.resnets\.\d+)\.(.+)")
HOST_RESIDUAL_BLOCK = re.compile(r"(.+?)\.((?:(?:in|emb|out)_layers|skip_connection)\..+)")


def unet_config() -> dict[str, Any]:
    """The UNet in the host's terms."""
    return {
        "image_size": 32,
        "in_channels": 2 * LATENT_CHANNELS,
        "out_channels": LATENT_CHANNELS,
        "model_channels": CHANNELS[0],
        "channel_mult": [channels // CHANNELS[0] for channels in CHANNELS],
        "num_res_blocks": [1] * len(CHANNELS),
        "transformer_depth": list(TRANSFORMER_DEPTH),
        "transformer_depth_output": [depth for depth in TRANSFORMER_DEPTH for _ in range(2)],
        "transformer_depth_middle": 1,
        "context_dim": CONTEXT_DIM,
        "num_heads": HEADS[0],
        "use_spatial_transformer": True,
        "use_linear_in_transformer": True,
        "legacy": False,
        "num_classes": "sequential",
        "adm_in_channels": NUMBER_EMBEDDINGS,
        "use_temporal_attention": True,
        "use_temporal_resblock": True,
        "use_spatial_context": True,
        "extra_ff_mix_layer": True,
        "disable_temporal_crossattention": False,
        "merge_strategy": "learned_with_images",
        "merge_factor": 0.0,
        "video_kernel_size": [3, 1, 1],
    }


def residual_places(diffusers: str, host: str) -> dict[str, str]:
    """An image residual block's parameter as the video model has it, in space and in time, and what mixes the two."""
    block, parameter = RESIDUAL_BLOCK.fullmatch(diffusers).groups()
    host_block, host_parameter = HOST_RESIDUAL_BLOCK.fullmatch(host).groups()
    return {
        f"{block}.spatial_res_block.{parameter}": host,
        f"{block}.temporal_res_block.{parameter}": f"{host_block}.time_stack.{host_parameter}",
        f"{block}.time_mixer.mix_factor": f"{host_block}.time_mixer.mix_factor",
    }


def block_places(diffusers: str, host: str) -> dict[str, str]:
    """An image transformer block's parameter as the video model has it, in space and in time."""
    temporal = diffusers.replace(".transformer_blocks.", ".temporal_transformer_blocks.")
    host_temporal = host.replace(".transformer_blocks.", ".time_stack.")
    places = {diffusers: host, temporal: host_temporal}
    # In time there is one more feed-forward layer with its norm, ahead of the attention.
    for own, further in ((".ff.", ".ff_in."), (".norm1.", ".norm_in.")):
        places[temporal.replace(own, further)] = host_temporal.replace(own, further)
    return places


def transformer_places(diffusers: str, host: str) -> dict[str, str]:
    """An image transformer's input projection, and what embeds the frame numbers and mixes space and time beside it."""
    transformer, _, end = diffusers.partition("proj_in.")
    host_transformer = host.removesuffix(f"proj_in.{end}")
    return {
        diffusers: host,
        f"{transformer}time_pos_embed.linear_1.{end}": f"{host_transformer}time_pos_embed.0.{end}",
        f"{transformer}time_pos_embed.linear_2.{end}": f"{host_transformer}time_pos_embed.2.{end}",
        f"{transformer}time_mixer.mix_factor": f"{host_transformer}time_mixer.mix_factor",
    }


def video_places(config: dict[str, Any]) -> dict[str, str]:
    """The host's name of each parameter, by its diffusers name. The host itself knows only an image UNet's."""
    places: dict[str, str] = {}
    for diffusers, host in unet_places(config).items():
        if ".resnets." in diffusers:
            places |= residual_places(diffusers, host)
        elif ".transformer_blocks." in diffusers:
            places |= block_places(diffusers, host)
        elif ".proj_in." in diffusers:
            places |= transformer_places(diffusers, host)
        else:
            places[diffusers] = host
    return places


def build_model(model: str) -> comfy.model_patcher.ModelPatcher:
    config = unet_config()
    places = {diffusers: (host, None) for diffusers, host in video_places(config).items()}
    return make_patcher(model, comfy.supported_models.SVD_img2vid(config), places)


def sampling_job(patcher: comfy.model_patcher.ModelPatcher, _model: str, case: Case) -> SamplingJob:
    """A case with its conditioning as the host's own node for this model hands it on."""
    inputs = make_video_inputs(case)
    embedding, latents = torch.from_numpy(inputs.image_embedding)[None], torch.from_numpy(inputs.image_latents)
    numbers = {"fps": FPS, "motion_bucket_id": MOTION_BUCKET_ID, "augmentation_level": AUGMENTATION_LEVEL}
    positive = [[embedding, {"concat_latent_image": latents, **numbers}]]
    negative = [[torch.zeros_like(embedding), {"concat_latent_image": torch.zeros_like(latents), **numbers}]]
    (guided,) = VideoLinearCFGGuidance().patch(patcher, FIRST_FRAME_CFG)
    return SamplingJob(guided, torch.from_numpy(inputs.noise), case.cfg, positive, negative)
