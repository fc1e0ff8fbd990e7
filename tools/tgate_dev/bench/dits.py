"""The host's diffusion transformers for pictures and videos at full size.

What the networks are made of is what the host reads from their published checkpoints; where it reads nothing, its
defaults are theirs. Pictures and videos are of the size that the host's own nodes suggest.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

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


def _hunyuan_conditioning() -> dict[str, Any]:
    return {
        "attention_mask": torch.ones(1, 77),
        "conditioning_mt5xl": torch.zeros(1, 256, 2048),
        "attention_mask_mt5xl": torch.ones(1, 256),
    }


HUNYUAN_DIT = FullSizeModel(
    "HunyuanDiT",
    square_latent(1024),
    (77, 1024),
    {"image_model": "hydit", "depth": 40, "hidden_size": 1408, "mlp_ratio": 4.3637},
    _hunyuan_conditioning,
)

# 832 x 480 pixels, 81 frames.
_WAN_LATENT = (1, 16, 21, 60, 104)
_WAN_TEXT = (512, 4096)
_WAN: dict[str, Any] = {"image_model": "wan2.1", "model_type": "t2v", "in_dim": 16, "out_dim": 16, "freq_dim": 256}
_WAN_14B: dict[str, Any] = {**_WAN, "dim": 5120, "ffn_dim": 13824, "num_heads": 40, "num_layers": 40}


def _picture_embedding() -> dict[str, Any]:
    """What the host's CLIP vision encoder makes of a picture: (1, tokens, width)."""
    return {"clip_vision_output": SimpleNamespace(penultimate_hidden_states=torch.zeros(1, 257, 1280))}


WAN_T2V_1_3B = FullSizeModel(
    "WAN21_T2V", _WAN_LATENT, _WAN_TEXT, {**_WAN, "dim": 1536, "ffn_dim": 8960, "num_heads": 12, "num_layers": 30}
)
WAN_T2V_14B = FullSizeModel("WAN21_T2V", _WAN_LATENT, _WAN_TEXT, _WAN_14B)
WAN_I2V_14B = FullSizeModel(
    "WAN21_I2V", _WAN_LATENT, _WAN_TEXT, {**_WAN_14B, "model_type": "i2v", "in_dim": 36}, _picture_embedding
)


def _ltxv_conditioning() -> dict[str, Any]:
    return {"attention_mask": torch.ones(1, 128, dtype=torch.long)}


# 768 x 512 pixels, 97 frames.
LTXV_2B = FullSizeModel(
    "LTXV",
    (1, 128, 13, 16, 24),
    (128, 4096),
    {"image_model": "ltxv", "num_layers": 28, "attention_head_dim": 64, "cross_attention_dim": 2048},
    _ltxv_conditioning,
)

_COSMOS: dict[str, Any] = {
    "max_img_h": 240,
    "max_img_w": 240,
    "max_frames": 128,
    "in_channels": 16,
    "out_channels": 16,
    "patch_spatial": 2,
    "patch_temporal": 1,
    "concat_padding_mask": True,
    "pos_emb_cls": "rope3d",
    "pos_emb_interpolation": "crop",
    "use_adaln_lora": True,
    "adaln_lora_dim": 256,
    "num_blocks": 28,
}
# 1280 x 704 pixels, 121 frames.
COSMOS_7B = FullSizeModel(
    "CosmosT2V",
    (1, 16, 16, 88, 160),
    (512, 1024),
    {
        **_COSMOS,
        "image_model": "cosmos",
        "model_channels": 4096,
        "num_heads": 32,
        "block_config": "FA-CA-MLP",
        "block_x_format": "THWBD",
        "affline_emb_norm": True,
        "pos_emb_learnable": False,
        "extra_per_block_abs_pos_emb": True,
        "extra_per_block_abs_pos_emb_type": "learnable",
        "rope_h_extrapolation_ratio": 1.0,
        "rope_w_extrapolation_ratio": 1.0,
        "rope_t_extrapolation_ratio": 2.0,
    },
)
_PREDICT2: dict[str, Any] = {
    **_COSMOS,
    "model_channels": 2048,
    "num_heads": 16,
    "crossattn_emb_channels": 1024,
    "pos_emb_learnable": True,
    "min_fps": 1,
    "max_fps": 30,
    "extra_per_block_abs_pos_emb": False,
    "rope_h_extrapolation_ratio": 4.0,
    "rope_w_extrapolation_ratio": 4.0,
    "rope_t_extrapolation_ratio": 1.0,
    "extra_h_extrapolation_ratio": 1.0,
    "extra_w_extrapolation_ratio": 1.0,
    "extra_t_extrapolation_ratio": 1.0,
    "rope_enable_fps_modulation": False,
}
# 1024 x 1024 pixels, one frame.
COSMOS_PREDICT2_2B = FullSizeModel(
    "CosmosT2IPredict2", (1, 16, 1, 128, 128), (512, 1024), {**_PREDICT2, "image_model": "cosmos_predict2"}
)
# The host's adapter of Anima's text runs once per text, before sampling: its result is what is given here.
ANIMA = FullSizeModel("Anima", (1, 16, 1, 128, 128), (512, 1024), {**_PREDICT2, "image_model": "anima"})


def _kandinsky_conditioning() -> dict[str, Any]:
    return {"pooled_output": torch.zeros(1, 768)}


# 768 x 512 pixels, 121 frames.
KANDINSKY_5_LITE = FullSizeModel(
    "Kandinsky5",
    (1, 16, 31, 64, 96),
    (256, 3584),
    {
        "image_model": "kandinsky5",
        "model_dim": 1792,
        "axes_dims": (16, 24, 24),
        "time_dim": 512,
        "ff_dim": 7168,
        "visual_embed_dim": 132,
        "num_text_blocks": 2,
        "num_visual_blocks": 32,
    },
    _kandinsky_conditioning,
)
