"""The host's UNets at full size."""

from __future__ import annotations

from typing import Any

import torch

from .models import FullSizeModel

TEXT_TOKENS = 77
PIXELS_PER_LATENT = 8

_COMMON: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "legacy": False,
    "use_spatial_transformer": True,
    "use_temporal_attention": False,
}
_FOUR_LEVELS: dict[str, Any] = {
    **_COMMON,
    "channel_mult": [1, 2, 4, 4],
    "num_res_blocks": [2, 2, 2, 2],
    "adm_in_channels": None,
    "transformer_depth": [1] * 6 + [0] * 2,
    "transformer_depth_output": [1] * 9 + [0] * 3,
    "transformer_depth_middle": 1,
}
_SDXL = {
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
}
_SVD = {
    "in_channels": 8,
    "context_dim": 1024,
    "use_linear_in_transformer": True,
    "num_classes": "sequential",
    "adm_in_channels": 768,
    "use_spatial_context": True,
    "video_kernel_size": [3, 1, 1],
    "extra_ff_mix_layer": True,
    "merge_strategy": "learned_with_images",
    "merge_factor": 0.0,
    "use_temporal_resblock": True,
    "use_temporal_attention": True,
    "disable_temporal_crossattention": False,
}


def square_latent(pixels: int) -> tuple[int, int, int, int]:
    """Latent shape of a square picture, (1, 4, height, width)."""
    side = pixels // PIXELS_PER_LATENT
    return 1, 4, side, side


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
    {**_COMMON, **_SDXL},
    lambda: {"pooled_output": torch.zeros(1, 1280)},
)
# img2vid-xt. The input picture comes as one token of text and as further channels.
SVD = FullSizeModel(
    "SVD_img2vid",
    (25, 4, 576 // PIXELS_PER_LATENT, 1024 // PIXELS_PER_LATENT),
    (1, 1024),
    {**_FOUR_LEVELS, **_SVD},
)
