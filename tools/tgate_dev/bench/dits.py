"""The host's diffusion transformers at full size, for pictures, videos and sound.

Configurations are those that the host reads from the published checkpoints, without what equals its defaults. Sizes of
pictures and videos are those that the host's nodes suggest.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import comfy.ldm.audio.embedders
import torch
from torch import Tensor

from .models import FullSizeModel
from .unets import square_latent

_PIXART: dict[str, Any] = {"input_size": 128, "pe_interpolation": 2}
_SIGMA = {"micro_condition": False, "model_max_length": 300}
PIXART_ALPHA = FullSizeModel(
    "PixArtAlpha", square_latent(1024), (120, 4096), {**_PIXART, "image_model": "pixart_alpha"}
)
PIXART_SIGMA = FullSizeModel(
    "PixArtSigma", square_latent(1024), (300, 4096), {**_PIXART, **_SIGMA, "image_model": "pixart_sigma"}
)
HUNYUAN_DIT = FullSizeModel(
    "HunyuanDiT",
    square_latent(1024),
    (77, 1024),
    {"image_model": "hydit", "depth": 40, "hidden_size": 1408, "mlp_ratio": 4.3637},
    lambda: {
        "attention_mask": torch.ones(1, 77),
        "conditioning_mt5xl": torch.zeros(1, 256, 2048),
        "attention_mask_mt5xl": torch.ones(1, 256),
    },
)

# 832 x 480 pixels, 81 frames.
_WAN_LATENT = (1, 16, 21, 60, 104)
_WAN_TEXT = (512, 4096)
_WAN_1_3B = {"image_model": "wan2.1", "dim": 1536, "ffn_dim": 8960, "num_heads": 12, "num_layers": 30}
_WAN_14B = {"image_model": "wan2.1", "dim": 5120, "ffn_dim": 13824, "num_heads": 40, "num_layers": 40}
WAN_T2V_1_3B = FullSizeModel("WAN21_T2V", _WAN_LATENT, _WAN_TEXT, {**_WAN_1_3B, "model_type": "t2v"})
WAN_T2V_14B = FullSizeModel("WAN21_T2V", _WAN_LATENT, _WAN_TEXT, {**_WAN_14B, "model_type": "t2v"})
# With the output of the host's CLIP vision encoder, (1, tokens, width).
WAN_I2V_14B = FullSizeModel(
    "WAN21_I2V",
    _WAN_LATENT,
    _WAN_TEXT,
    {**_WAN_14B, "model_type": "i2v", "in_dim": 36},
    lambda: {"clip_vision_output": SimpleNamespace(penultimate_hidden_states=torch.zeros(1, 257, 1280))},
)

# 768 x 512 pixels, 97 frames.
LTXV_2B = FullSizeModel(
    "LTXV",
    (1, 128, 13, 16, 24),
    (128, 4096),
    {"image_model": "ltxv"},
    lambda: {"attention_mask": torch.ones(1, 128, dtype=torch.long)},
)

_COSMOS: dict[str, Any] = {
    "max_img_h": 240,
    "max_img_w": 240,
    "max_frames": 128,
    "in_channels": 16,
    "out_channels": 16,
    "patch_spatial": 2,
    "patch_temporal": 1,
    "pos_emb_cls": "rope3d",
    "use_adaln_lora": True,
    "num_blocks": 28,
}
_COSMOS_1_7B = {
    "image_model": "cosmos",
    "model_channels": 4096,
    "num_heads": 32,
    "block_x_format": "THWBD",
    "affline_emb_norm": True,
    "rope_t_extrapolation_ratio": 2.0,
    "extra_per_block_abs_pos_emb": True,
    "extra_per_block_abs_pos_emb_type": "learnable",
}
_PREDICT2 = {
    "model_channels": 2048,
    "pos_emb_learnable": True,
    "rope_enable_fps_modulation": False,
    "rope_h_extrapolation_ratio": 4.0,
    "rope_w_extrapolation_ratio": 4.0,
}
# 1280 x 704 pixels, 121 frames.
COSMOS_7B = FullSizeModel("CosmosT2V", (1, 16, 16, 88, 160), (512, 1024), {**_COSMOS, **_COSMOS_1_7B})
# 1024 x 1024 pixels, one frame.
COSMOS_PREDICT2_2B = FullSizeModel(
    "CosmosT2IPredict2", (1, 16, 1, 128, 128), (512, 1024), {**_COSMOS, **_PREDICT2, "image_model": "cosmos_predict2"}
)
# The text is the output of Anima's adapter, which runs once per text, before sampling.
ANIMA = FullSizeModel("Anima", (1, 16, 1, 128, 128), (512, 1024), {**_COSMOS, **_PREDICT2, "image_model": "anima"})

# 768 x 512 pixels, 121 frames.
KANDINSKY_5_LITE = FullSizeModel(
    "Kandinsky5",
    (1, 16, 31, 64, 96),
    (256, 3584),
    {"image_model": "kandinsky5"},
    lambda: {"pooled_output": torch.zeros(1, 768)},
)


def _seconds_embedders() -> dict[str, Tensor]:
    """Weights of the two embedders that run on the CPU before sampling; the host takes them from the checkpoint."""
    embedder = comfy.ldm.audio.embedders.NumberConditioner(768).state_dict()
    places = "seconds_start", "seconds_total"
    return {f"conditioner.conditioners.{place}.{name}": weight for place in places for name, weight in embedder.items()}


# 47.6 seconds.
STABLE_AUDIO_OPEN = FullSizeModel(
    "StableAudio", (1, 64, 1024), (128, 768), {"audio_model": "dit1.0"}, weights=_seconds_embedders
)
_ACE_STEP = {
    "audio_model": "ace",
    "attention_head_dim": 128,
    "inner_dim": 2560,
    "max_width": 32768,
    "mlp_ratio": 2.5,
    "num_attention_heads": 20,
    "num_layers": 24,
    "ssl_encoder_depths": [8, 8],
    "lyric_encoder_vocab_size": 6693,
}
# 120 seconds.
ACE_STEP = FullSizeModel(
    "ACEStep",
    (1, 8, 16, 1291),
    (256, 768),
    _ACE_STEP,
    lambda: {"conditioning_lyrics": torch.zeros(1, 512, dtype=torch.long)},
)


def _without_reading_references(network: Any) -> None:
    """Grouping references by piece of music needs their values; here each batch is one group."""

    def unpacked(packed: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings (B, width) as (pieces, references, width), and their mask."""
        batch, width = packed.shape
        return packed.new_empty(batch, batch, width), order.new_empty(batch, batch)

    network.encoder.timbre_encoder.unpack_timbre_embeddings = unpacked


# 120 seconds.
ACE_STEP_1_5 = FullSizeModel(
    "ACEStep15",
    (1, 64, 3000),
    (256, 1024),
    {"audio_model": "ace1.5"},
    lambda: {"conditioning_lyrics": torch.zeros(1, 512, 1024)},
    prepare=_without_reading_references,
)
