"""The host's UNets at full size."""

from __future__ import annotations

from typing import Any

import torch

from .models import FullSizeModel

TEXT_TOKENS = 77
POOLED_TEXT = 1280
PIXELS_PER_LATENT = 8

_COMMON: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "use_spatial_transformer": True,
    "use_temporal_attention": False,
    "legacy": False,
}
_FOUR_LEVELS: dict[str, Any] = {
    **_COMMON,
    "channel_mult": [1, 2, 4, 4],
    "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
    "adm_in_channels": None,
}


def square_latent(pixels: int) -> tuple[int, int, int, int]:
    """Latent of one picture of so many pixels each way, (1, 4, height, width)."""
    side = pixels // PIXELS_PER_LATENT
    return 1, 4, side, side


def _pooled_text() -> dict[str, Any]:
    return {"pooled_output": torch.zeros(1, POOLED_TEXT)}


SD15 = FullSizeModel(
    "SD15",
    square_latent(512),
    (TEXT_TOKENS, 768),
    {**_FOUR_LEVELS, "context_dim": 768, "use_linear_in_transformer": False, "num_heads": 8},
)
SD21 = FullSizeModel(
    "SD20",
    square_latent(768),
    (TEXT_TOKENS, 1024),
    {**_FOUR_LEVELS, "context_dim": 1024, "use_linear_in_transformer": True, "num_head_channels": 64},
)
SDXL = FullSizeModel(
    "SDXL",
    square_latent(1024),
    (TEXT_TOKENS, 2048),
    {
        **_COMMON,
        "channel_mult": [1, 2, 4],
        "num_res_blocks": [2, 2, 2],
        "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
        "transformer_depth_middle": 10,
        "context_dim": 2048,
        "use_linear_in_transformer": True,
        "num_head_channels": 64,
        "num_classes": "sequential",
        "adm_in_channels": 2816,
    },
    _pooled_text,
)
# img2vid-xt. Its picture reaches the text's place as one token, and the channels as a second latent.
SVD = FullSizeModel(
    "SVD_img2vid",
    (25, 4, 576 // PIXELS_PER_LATENT, 1024 // PIXELS_PER_LATENT),
    (1, 1024),
    {
        **_FOUR_LEVELS,
        "in_channels": 8,
        "context_dim": 1024,
        "use_linear_in_transformer": True,
        "num_classes": "sequential",
        "adm_in_channels": 768,
        "extra_ff_mix_layer": True,
        "use_spatial_context": True,
        "merge_strategy": "learned_with_images",
        "merge_factor": 0.0,
        "video_kernel_size": [3, 1, 1],
        "use_temporal_resblock": True,
        "use_temporal_attention": True,
        "disable_temporal_crossattention": False,
    },
)
