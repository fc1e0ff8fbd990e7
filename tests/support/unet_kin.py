"""Tiny random-weight models that share the UNet's blocks and are cut differently: distilled SDXL, EDM, video."""

from __future__ import annotations

from typing import Any

import comfy.supported_models
import tiny
import torch
import variants
from comfy.model_patcher import ModelPatcher
from einops import rearrange
from torch import Tensor, nn

CPU = torch.device("cpu")
FRAMES = 3
SDXL_UNET: dict[str, Any] = {
    **tiny.SD15_UNET,
    "model_channels": 64,
    "num_classes": "sequential",
    "adm_in_channels": 2816,
    "use_linear_in_transformer": True,
}


def sdxl_like(host_class: str, depth: list[int], output_depth: list[int], middle: int, **changes: Any) -> ModelPatcher:
    """A distilled SDXL at two levels: `depth` transformer blocks on the way in, `output_depth` on the way out."""
    shape = {
        "num_res_blocks": [len(depth) // 2] * 2,
        "transformer_depth": depth,
        "transformer_depth_output": output_depth,
        "transformer_depth_middle": middle,
    }
    return variants.build(getattr(comfy.supported_models, host_class)({**SDXL_UNET, **shape, **changes}))


def ssd_1b() -> ModelPatcher:
    """SSD-1B: fewer blocks on the way in than on the way out, none in the middle."""
    return sdxl_like("SSD1B", [0, 2], [0, 0, 2, 1], -1)


def vega() -> ModelPatcher:
    """Segmind Vega: one or two blocks a level, none in the middle."""
    return sdxl_like("Segmind_Vega", [0, 1], [0, 0, 2, 1], -1)


def koala() -> ModelPatcher:
    """KOALA: no middle stage at all."""
    return sdxl_like("KOALA_700M", [0, 2], [0, 0, 2, 2], -2)


def playground() -> ModelPatcher:
    """Playground 2.5: an SDXL that samples by EDM."""
    # The host writes the sampling settings of this model into its class: here, into one that is ours.
    own = type("SDXL", (comfy.supported_models.SDXL,), {"sampling_settings": {}})
    config = own({**SDXL_UNET, **variants.ONE_LEVEL})
    torch.manual_seed(0)
    base = config.get_model({"edm_mean": torch.zeros(4), "edm_std": torch.ones(4)}, device=CPU)
    tiny.randomise(base.diffusion_model, 0)
    return ModelPatcher(base, CPU, CPU)


class MotionModule(nn.Module):
    """Attention over the frames of a batch, as AnimateDiff puts it between a UNet's own layers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(channels, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """`x` is (conds * FRAMES, C, H, W)."""
        height = x.shape[2]
        frames = rearrange(x, "(c f) d h w -> (c h w) f d", f=FRAMES)
        moved, _ = self.attention(frames, frames, frames, need_weights=False)
        return x + rearrange(moved, "(c h w) f d -> (c f) d h w", h=height, c=len(x) // FRAMES)


def animated() -> ModelPatcher:
    """SD 1.5 with a motion module behind each transformer of the way in and out."""
    model = tiny.sd15()
    unet = model.model.diffusion_model
    generator = torch.Generator().manual_seed(12)
    for stage in (*unet.input_blocks, *unet.output_blocks):
        transformers = [layer for layer in stage if hasattr(layer, "transformer_blocks")]
        if transformers:
            module = MotionModule(transformers[0].in_channels).requires_grad_(False)
            for parameter in module.parameters():
                parameter.data = torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5
            stage.append(module)
    return model


def pairs(model: ModelPatcher) -> list[tuple[nn.Module, nn.Module]]:
    """Self- and cross-attention of each transformer block, temporal ones included."""
    return [(block.attn1, block.attn2) for block in tiny.blocks(model)]
