"""Full-size models of the host's own classes as shapes alone: no weights, no memory, any machine.

Parameters live on torch's `meta` device. The sampler, the guider and the nodes run for real on the CPU; only the
network is run on shapes, and answers with zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import comfy.ops
import comfy.supported_models
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

TEXT_TOKENS = 77
POOLED_TEXT = 1280
PIXELS_PER_LATENT = 8
_META = torch.device("meta")
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class FullSizeModel:
    """A published architecture.

    Attributes:
        host_class: its class in `comfy.supported_models`.
        pixels: side of the square picture it was made for.
        unet: what the host reads from a checkpoint of it, beside `_COMMON`.
    """

    host_class: str
    pixels: int
    unet: Mapping[str, Any] = field(repr=False)

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """Latent of one picture, (1, 4, height, width)."""
        side = self.pixels // PIXELS_PER_LATENT
        return 1, 4, side, side


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
    "channel_mult": [1, 2, 4, 4],
    "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
    "adm_in_channels": None,
}

SD15 = FullSizeModel(
    "SD15", 512, {**_FOUR_LEVELS, "context_dim": 768, "use_linear_in_transformer": False, "num_heads": 8}
)
SD21 = FullSizeModel(
    "SD20", 768, {**_FOUR_LEVELS, "context_dim": 1024, "use_linear_in_transformer": True, "num_head_channels": 64}
)
SDXL = FullSizeModel(
    "SDXL",
    1024,
    {
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
)


class _ShapeOperations(comfy.ops.disable_weight_init):  # type: ignore[misc]  # the host has no types
    """The host's layers, with normalisation reduced to its shape: it holds no MACs, and is slowest of all on `meta`."""

    class GroupNorm(comfy.ops.disable_weight_init.GroupNorm):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            return torch.empty_like(x)

    class LayerNorm(comfy.ops.disable_weight_init.LayerNorm):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            return torch.empty_like(x)


def build_on_meta(model: FullSizeModel) -> ModelPatcher:
    """The model as ComfyUI's loaders return it, in half precision, without weights."""
    config = getattr(comfy.supported_models, model.host_class)({**_COMMON, **model.unet})
    config.set_inference_dtype(torch.float16, None)
    config.custom_operations = _ShapeOperations
    base = config.get_model({}, device=_META)
    patcher = ModelPatcher(base, load_device=_CPU, offload_device=_CPU)
    # There is nothing to load, and `meta` parameters cannot be moved: the model counts as loaded in full.
    base.device = _CPU
    base.model_loaded_weight_memory = patcher.model_size()
    patcher.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "run_on_meta", _run_on_meta)
    return patcher


def blank_conditioning(model: FullSizeModel) -> list[list[Any]]:
    """A conditioning of the right shape: text (1, 77, context), with the pooled text where the model has it."""
    text = torch.zeros(1, TEXT_TOKENS, model.unet["context_dim"])
    return [[text, {"pooled_output": torch.zeros(1, POOLED_TEXT)}]]


def _run_on_meta(executor: Any, *args: Any, **kwargs: Any) -> Tensor:
    """One network call. Positional: x (B, C, height, width), timesteps, context, y, control, transformer_options."""
    *tensors, control, transformer_options = args[:6]
    shapes = [tensor if tensor is None else tensor.to(_META) for tensor in tensors]
    options = {**transformer_options, "optimized_attention_override": _attention_on_meta}
    output = executor(*shapes, control, options, *args[6:], **kwargs)
    return torch.zeros(output.shape, dtype=output.dtype, device=args[0].device)


def _attention_on_meta(_kernel: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, *_: Any, **_options: Any) -> Tensor:
    """The kernel's two matrix products alone; the host's choice for the CPU would ask for the device's free memory.

    `q` is (B, tokens, channels), `k` and `v` (B, other tokens, channels); so is the result, like `q`.
    """
    batch, tokens, channels = q.shape
    sides = batch * heads, k.shape[1], channels // heads
    scores = torch.bmm(q.new_empty(sides[0], tokens, sides[2]), k.new_empty(sides[0], sides[2], sides[1]))
    torch.bmm(scores, v.new_empty(sides))
    return torch.empty_like(q)
