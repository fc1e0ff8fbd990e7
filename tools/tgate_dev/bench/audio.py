"""The host's diffusion transformers for sound at full size."""

from __future__ import annotations

from typing import Any

import comfy.ldm.audio.embedders
import torch
from torch import Tensor

from .models import FullSizeModel

_SECONDS_WIDTH = 768
_LYRIC_TOKENS = 512


def _seconds_embedders() -> dict[str, Tensor]:
    """The weights of the two embedders that run before sampling, on the CPU; the host does not make them itself."""
    embedder = comfy.ldm.audio.embedders.NumberConditioner(_SECONDS_WIDTH).state_dict()
    places = "seconds_start", "seconds_total"
    return {f"conditioner.conditioners.{place}.{name}": weight for place in places for name, weight in embedder.items()}


# 47.6 seconds. The host's defaults are this model's sizes.
STABLE_AUDIO_OPEN = FullSizeModel(
    "StableAudio",
    (1, 64, 1024),
    (128, 768),
    {"audio_model": "dit1.0"},
    weights=_seconds_embedders,
)


def _ace_conditioning() -> dict[str, Any]:
    return {"conditioning_lyrics": torch.zeros(1, _LYRIC_TOKENS, dtype=torch.long)}


# 120 seconds.
ACE_STEP = FullSizeModel(
    "ACEStep",
    (1, 8, 16, 1291),
    (256, 768),
    {
        "audio_model": "ace",
        "attention_head_dim": 128,
        "in_channels": 8,
        "inner_dim": 2560,
        "max_height": 16,
        "max_position": 32768,
        "max_width": 32768,
        "mlp_ratio": 2.5,
        "num_attention_heads": 20,
        "num_layers": 24,
        "out_channels": 8,
        "patch_size": [16, 1],
        "speaker_embedding_dim": 512,
        "text_embedding_dim": 768,
        "ssl_encoder_depths": [8, 8],
        "ssl_latent_dims": [1024, 768],
        "ssl_names": ["mert", "m-hubert"],
        "lyric_encoder_vocab_size": 6693,
        "lyric_hidden_size": 1024,
    },
    _ace_conditioning,
)


def _ace_15_conditioning() -> dict[str, Any]:
    return {"conditioning_lyrics": torch.zeros(1, _LYRIC_TOKENS, 1024)}


def _without_reading_references(network: Any) -> None:
    """The host counts the references of each piece of music on the device; it gives all of a batch to the first."""

    def unpacked(packed: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings (B, width) as (pieces, references of each, width), and which of them there are."""
        batch, width = packed.shape
        return packed.new_empty(batch, batch, width), order.new_empty(batch, batch)

    network.encoder.timbre_encoder.unpack_timbre_embeddings = unpacked


# 120 seconds; the defaults again.
ACE_STEP_1_5 = FullSizeModel(
    "ACEStep15",
    (1, 64, 3000),
    (256, 1024),
    {"audio_model": "ace1.5"},
    _ace_15_conditioning,
    prepare=_without_reading_references,
)
