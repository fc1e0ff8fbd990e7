"""The image UNets in diffusers, with the published package's loaders. Runs in the package's environment only."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from parity_cases import CONTEXT_DIM, POOLED_DIM, Case, make_inputs
from parity_unet import UNETS, UNetShape
from published import common_arguments, draw_weights, euler, unused_vae
from tgate import TgateSDLoader, TgateSDXLLoader

SIZE_EMBEDDING_DIM = 256
SIZE_NUMBERS = 6
LOADERS = {"sd15": TgateSDLoader, "sdxl": TgateSDXLLoader}


def build_unet(shape: UNetShape) -> UNet2DConditionModel:
    """A UNet whose every weight is drawn from its name."""
    options: dict[str, Any] = {}
    if shape.pooled:
        options = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": SIZE_EMBEDDING_DIM,
            "projection_class_embeddings_input_dim": SIZE_NUMBERS * SIZE_EMBEDDING_DIM + POOLED_DIM,
        }
    attends = [depth > 0 for depth in shape.transformer_depth]
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=shape.channels,
        layers_per_block=1,
        down_block_types=["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends],
        up_block_types=["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)],
        transformer_layers_per_block=[max(1, depth) for depth in shape.transformer_depth],
        cross_attention_dim=CONTEXT_DIM,
        attention_head_dim=shape.heads,  # the library's historical name for the number of heads
        use_linear_projection=shape.linear_projection,
        **options,
    )
    return draw_weights(shape.name, unet)


def build_pipeline(model: str) -> Any:
    """A pipeline with T-GATE."""
    return LOADERS[model](build_plain_pipeline(model))


def build_plain_pipeline(model: str) -> Any:
    """A diffusers pipeline around a UNet alone: text comes in as embeddings, latents come out."""
    shape = UNETS[model]
    parts: dict[str, Any] = {
        "vae": unused_vae(),
        "text_encoder": None,
        "tokenizer": None,
        "unet": build_unet(shape),
        "scheduler": euler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
    }
    if shape.pooled:
        parts |= {"text_encoder_2": None, "tokenizer_2": None}
        return StableDiffusionXLPipeline(**parts, add_watermarker=False)
    parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return StableDiffusionPipeline(**parts)


def call_arguments(model: str, case: Case, pipeline: Any) -> dict[str, Any]:
    """The pipeline call of a case, without the schedule."""
    inputs = make_inputs(model, case)
    guided = case.cfg > 1.0
    arguments = common_arguments(case, inputs, pipeline.scheduler)
    if UNETS[model].pooled:
        arguments |= {
            "pooled_prompt_embeds": torch.from_numpy(inputs.positive_pooled),
            "negative_pooled_prompt_embeds": torch.from_numpy(inputs.negative_pooled) if guided else None,
            "original_size": inputs.positive_size,
            "target_size": inputs.target_size,
            "negative_original_size": inputs.negative_size,
            "negative_target_size": inputs.target_size,
        }
    return arguments
