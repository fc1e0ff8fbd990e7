"""Memory: how much the captures of a run will take, and telling the host before it loads the model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import comfy.model_management
import torch
from comfy.ldm.modules.attention import SpatialTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, UNetModel, Upsample

from ..run import Run
from ..schedule import ATTENTION_KINDS
from .keys import RUN_KEY

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.patcher_extension import WrapperExecutor

BRANCHES = 2


def prepare_sampling_wrapper(executor: WrapperExecutor, *args: Any, **kwargs: Any) -> Any:
    """Before the host loads the model: makes it leave room for the captures.

    Positional: model patcher, noise_shape (B, C, …), conds. The host's estimate is linear in the batch size, so room
    is asked for as a larger batch, which the host uses for nothing else.
    """
    patcher, noise_shape, *rest = args
    run: Run | None = (kwargs.get("model_options") or {}).get("transformer_options", {}).get(RUN_KEY)
    if run is None or run.config.cache_device == "cpu":
        return executor(*args, **kwargs)
    base = patcher.model.memory_required(list(noise_shape))
    extra = expected_capture_bytes(run, patcher, noise_shape)
    wider = [noise_shape[0] * (1 + extra / base), *noise_shape[1:]] if base > 0 else noise_shape
    return executor(patcher, wider, *rest, **kwargs)


def expected_capture_bytes(run: Run, patcher: ModelPatcher, noise_shape: torch.Size) -> int:
    """Most bytes of captures that a run will hold at once, both branches together."""
    kinds = [kind for kind in ATTENTION_KINDS if any(run.schedule.wanted[kind])]
    # With fi_interval 1 self-attention is given up before cross-attention is captured: never both at once.
    at_once = len(kinds) if run.config.fi_interval > 1 else min(len(kinds), 1)
    elements = noise_shape[0] * sum(_outputs(patcher.model.diffusion_model, noise_shape[-2], noise_shape[-1]))
    expected = BRANCHES * at_once * elements * comfy.model_management.dtype_size(patcher.model.get_dtype_inference())
    limit = run.config.cache_limit_mb * 2**20
    return min(expected, limit) if limit else expected


def is_memory_short(device: torch.device) -> bool:
    """Whether the host itself would hold back on this device: less free than it reserves for inference."""
    free = comfy.model_management.get_free_memory(device)
    return bool(free < comfy.model_management.minimum_inference_memory())


def _outputs(unet: UNetModel, height: int, width: int) -> Iterator[int]:
    """Elements of one attention output (tokens * channels) of each transformer block, for one latent."""
    scale = 1
    middle = [] if unet.middle_block is None else [unet.middle_block]
    for stage in (*unet.input_blocks, *middle, *unet.output_blocks):
        for layer in stage:
            if isinstance(layer, Downsample):
                scale *= 2
            elif isinstance(layer, Upsample):
                scale //= 2
            elif isinstance(layer, SpatialTransformer):
                tokens = math.ceil(height / scale) * math.ceil(width / scale)
                yield from (tokens * block.attn1.to_q.in_features for block in layer.transformer_blocks)
