"""The PixArt models in diffusers, with the published package's loaders. Runs in the package's environment only."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import PixArtAlphaPipeline, PixArtSigmaPipeline, PixArtTransformer2DModel
from parity_cases import CONTEXT_DIM, LATENT_CHANNELS, STEPS, Case, make_inputs
from parity_pixart import PIXARTS, PixArtShape
from published import common_arguments, draw_weights, euler, unused_vae
from tgate import TgatePixArtAlphaLoader, TgatePixArtSigmaLoader

# Only at this sample size does the package tell the network the picture's own size. Positions are scaled with it, to
# what ComfyUI makes of them for pictures of any size.
SAMPLE_SIZE = 128
# The model's own noise levels, without the loud ones: there the first steps leave so much behind in the latents that
# nothing shows of the later ones.
TRAINED_BETAS = np.linspace(0.0001, 0.02, 1000)
TIMESTEPS = 40 * STEPS


def build_transformer(shape: PixArtShape) -> PixArtTransformer2DModel:
    """A transformer whose every weight is drawn from its name."""
    transformer = PixArtTransformer2DModel(
        num_attention_heads=shape.heads,
        attention_head_dim=shape.channels // shape.heads,
        in_channels=LATENT_CHANNELS,
        out_channels=2 * LATENT_CHANNELS,
        num_layers=shape.depth,
        cross_attention_dim=shape.channels,
        caption_channels=CONTEXT_DIM,
        sample_size=SAMPLE_SIZE,
        use_additional_conditions=shape.sizes,
    )
    return draw_weights(shape.name, transformer)


def build_pipeline(model: str) -> Any:
    """A diffusers pipeline with T-GATE, around a transformer alone: text comes in as embeddings, latents come out."""
    shape = PIXARTS[model]
    parts = {
        "vae": unused_vae(),
        "text_encoder": None,
        "tokenizer": None,
        "transformer": build_transformer(shape),
        "scheduler": euler(trained_betas=TRAINED_BETAS[:TIMESTEPS], num_train_timesteps=TIMESTEPS),
    }
    if shape.sizes:
        return TgatePixArtAlphaLoader(PixArtAlphaPipeline(**parts))
    return TgatePixArtSigmaLoader(PixArtSigmaPipeline(**parts))


def call_arguments(model: str, case: Case, pipeline: Any) -> dict[str, Any]:
    """The pipeline call of a case, without the schedule. No token is masked: ComfyUI's PixArt has no mask."""
    inputs = make_inputs(model, case)
    mask = torch.ones(inputs.positive.shape[:2])
    return common_arguments(case, inputs, pipeline.scheduler) | {
        "prompt_attention_mask": mask,
        "negative_prompt": None,
        "negative_prompt_attention_mask": mask if case.cfg > 1.0 else None,
        "use_resolution_binning": False,
    }
