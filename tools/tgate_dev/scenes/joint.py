"""Joint attention of text and picture: a small network of the class of Lumina 2 and Z-Image, trained here."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import nn

from . import flow, text

CONFIG: dict[str, Any] = {
    "patch_size": 2,
    "in_channels": 4,
    "dim": 128,
    "n_layers": 6,
    "n_refiner_layers": 1,
    "n_heads": 4,
    "multiple_of": 32,
    "ffn_dim_multiplier": 2.0,
    "qk_norm": True,
    "cap_feat_dim": text.WIDTH,
    "axes_dims": (8, 12, 12),
    "axes_lens": (64, 64, 64),
    # As in Z-Image.
    "rope_theta": 256.0,
    "time_scale": 1000.0,
}
STEPS, SEED = 2800, 18
# What scales a branch, and the last layer.
ZERO = (
    "adaLN_modulation.1.weight",
    "final_layer.linear.weight",
    "context_refiner.0.attention_norm2.weight",
    "context_refiner.0.ffn_norm2.weight",
)


def small_network() -> Any:
    """The host's network."""
    import comfy.ops
    from comfy.ldm.lumina.model import NextDiT

    return NextDiT(**CONFIG, dtype=torch.float32, operations=comfy.ops.disable_weight_init)


def host_model() -> Any:
    """The host's model without a network: Lumina 2, sampled as Z-Image is."""
    import comfy.model_base
    import comfy.supported_models

    return comfy.model_base.Lumina2(flow.config(comfy.supported_models.ZImage, 2))


def train(state: Path) -> nn.Module:
    """The small network, trained from nothing or from where `state` left off."""
    import comfy.model_management

    torch.manual_seed(SEED)
    network: nn.Module = small_network()
    flow.initialize(network, ZERO)
    # Else the host takes kernels that have no gradient.
    with patch.object(comfy.model_management, "in_training", True):
        flow.train("Training the joint attention", network, state, STEPS)
    return network
