"""The host's diffusion transformers for pictures and videos at full size.

What the networks are made of is what the host reads from their published checkpoints; where it reads nothing, its
defaults are theirs. Pictures and videos are of the size that the host's own nodes suggest.
"""

from __future__ import annotations

from typing import Any

from .models import FullSizeModel
from .unets import square_latent

_PIXART: dict[str, Any] = {
    "num_heads": 16,
    "patch_size": 2,
    "hidden_size": 1152,
    "in_channels": 4,
    "depth": 28,
    "input_size": 128,
    "pe_interpolation": 2,
}
PIXART_ALPHA = FullSizeModel(
    "PixArtAlpha",
    square_latent(1024),
    (120, 4096),
    {**_PIXART, "image_model": "pixart_alpha", "micro_condition": True, "model_max_length": 120},
)
PIXART_SIGMA = FullSizeModel(
    "PixArtSigma",
    square_latent(1024),
    (300, 4096),
    {**_PIXART, "image_model": "pixart_sigma", "micro_condition": False, "model_max_length": 300},
)
