"""The DiT with cross-attention: a small network of the class of Cosmos Predict2 and Anima, trained here."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from . import flow, text

CONFIG: dict[str, Any] = {
    "max_img_h": 32,
    "max_img_w": 32,
    "max_frames": 1,
    "in_channels": 4,
    "out_channels": 4,
    "patch_spatial": 2,
    "patch_temporal": 1,
    "concat_padding_mask": False,
    "model_channels": 128,
    "num_blocks": 6,
    "num_heads": 4,
    "mlp_ratio": 3.0,
    "crossattn_emb_channels": text.WIDTH,
    "pos_emb_cls": "rope3d",
    "extra_per_block_abs_pos_emb": True,  # else it could tell left from right by the borders alone
}
STEPS, SEED = 2400, 19
# What scales a branch, and the last layer.
ZERO = ("_attn.1.weight", "_mlp.1.weight", "final_layer.adaln_modulation.1.weight", "final_layer.linear.weight")
# Times are from 0 to 1, which a sinusoid made for hundreds of steps hardly tells apart.
TIME_SCALE = 8.0


def small_network() -> Any:
    """The host's network."""
    import comfy.ops
    from comfy.ldm.cosmos.predict2 import MiniTrainDIT

    return MiniTrainDIT(**CONFIG, dtype=torch.float32, operations=comfy.ops.disable_weight_init)


def host_model() -> Any:
    """The host's model without a network: Cosmos Predict2, sampled as Anima is."""
    import comfy.model_base
    import comfy.supported_models

    config = flow.config(comfy.supported_models.Anima, 3)
    return comfy.model_base.CosmosPredict2(config, comfy.model_base.ModelType.FLOW)


def train(state: Path) -> nn.Module:
    """The small network, trained from nothing or from where `state` left off."""
    import comfy.quant_ops

    torch.manual_seed(SEED)
    network: nn.Module = small_network()
    initialize(network)
    # The host's kernel has no gradient.
    with patch.object(comfy.quant_ops.ck, "rms_rope_split_half", rms_rope_split_half):
        flow.train("Training the DiT", network, state, STEPS)
    return network


def initialize(network: nn.Module) -> None:
    """Random weights; what a block adds is nothing at first."""
    flow.initialize(network, ZERO)
    for name, weight in network.named_parameters():
        if ".pos_emb_" in name:
            nn.init.normal_(weight)
        if name == "t_embedder.1.linear_1.weight":
            weight.data *= TIME_SCALE


def rms_rope_split_half(
    query: Tensor, key: Tensor, turns: Tensor, query_scale: Tensor, key_scale: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """What the host's kernel of this name computes: queries and keys, normalised and turned by their places.

    Args:
        query: (batch, tokens, heads, channels); the first half of the channels is turned with the second.
        key: likewise.
        turns: (1, tokens, 1, channels / 2, 2, 2).
        query_scale: of the norm, (channels,).
        key_scale: likewise.
        epsilon: of the norms.
    """

    def turned(part: Tensor, scale: Tensor) -> Tensor:
        first, second = nn.functional.rms_norm(part, scale.shape, scale, epsilon).chunk(2, -1)
        return torch.cat([turns[..., row, 0] * first + turns[..., row, 1] * second for row in (0, 1)], -1)

    return turned(query, query_scale), turned(key, key_scale)
