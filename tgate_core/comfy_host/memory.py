"""Memory: how much the captures of a run will take, and telling the host before it loads the model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import comfy.model_management
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, UNetModel, Upsample
from torch import nn

from ..architectures import UNET, Architecture, attention_sites
from ..run import Run
from ..schedule import ATTENTION_KINDS, CROSS_ATTENTION
from .deep_blocks import feature_size
from .families import architecture
from .keys import RUN_KEY

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.patcher_extension import WrapperExecutor

BRANCHES = 2


def prepare_sampling_wrapper(executor: WrapperExecutor, *args: Any, **kwargs: Any) -> Any:
    """Before the host loads the model: makes it leave room for the captures.

    Positional: model patcher, noise_shape (B, C, …), conds. The host's estimate is linear in the latent's size, so room
    is asked for as a larger latent, which the host uses for nothing else.
    """
    patcher, noise_shape, *rest = args
    model_options = kwargs.get("model_options") or {}
    run: Run | None = model_options.get("transformer_options", {}).get(RUN_KEY)
    if run is None or run.config.cache_device == "cpu":
        return executor(*args, **kwargs)
    shape, windowed_dim = _shape_at_once(noise_shape, model_options)
    base = patcher.model.memory_required(shape)
    wider, free_dim = list(noise_shape), len(shape) - (2 if windowed_dim == len(shape) - 1 else 1)
    if base > 0:
        wider[free_dim] *= 1 + _bytes_to_reserve(run, patcher, base) / base
    return executor(patcher, wider, *rest, **kwargs)


def _shape_at_once(noise_shape: Sequence[float], model_options: dict[str, Any]) -> tuple[list[float], int | None]:
    """What of the latent is in the model at once, and the dimension that context windows divide, if there are any.

    The node of the windows cuts that dimension back to one window, before us or after us.
    """
    shape, handler = list(noise_shape), model_options.get("context_handler")
    dim, length = getattr(handler, "dim", None), getattr(handler, "context_length", None)
    if dim is None or length is None or dim >= len(shape):
        return shape, None
    shape[dim] = min(shape[dim], length)
    return shape, dim


def _bytes_to_reserve(run: Run, patcher: ModelPatcher, base: float) -> float:
    """How much of the captures the host should leave room for, beside the `base` bytes that sampling takes.

    Captures that may live elsewhere are not worth unloading weights for, as those of long videos would.
    """
    expected = expected_capture_bytes(run, patcher)
    if run.config.cache_device != "auto":
        return expected
    total = comfy.model_management.get_total_memory(patcher.load_device)
    taken = base + patcher.model_size() + comfy.model_management.minimum_inference_memory()
    return max(0.0, min(expected, total - taken))


def expected_capture_bytes(run: Run, patcher: ModelPatcher) -> int:
    """Most bytes of captures that a run will hold at once, both branches and all context windows together."""
    kinds = [kind for kind in ATTENTION_KINDS if any(run.schedule.wanted[kind])]
    # With fi_interval 1 self-attention is given up before cross-attention is captured: never both at once, unless some
    # cross-attentions have gates of their own.
    is_both_at_once = run.config.fi_interval > 1 or bool(run.site_gates)
    at_once = len(kinds) if is_both_at_once else min(len(kinds), 1)
    batch, _, *size = run.latent_shape
    network = patcher.model.diffusion_model
    elements = at_once * sum(_outputs(network, architecture(patcher), size))
    if run.deep.shallow:
        elements += feature_size(network, run.deep.branch, *size[-2:])
    expected = BRANCHES * batch * elements * comfy.model_management.dtype_size(patcher.model.get_dtype_inference())
    limit = run.config.cache_limit_mb * 2**20
    return min(expected, limit) if limit else expected


def is_memory_short(device: torch.device) -> bool:
    """Whether the host itself would hold back on this device: less free than it reserves for inference."""
    free = comfy.model_management.get_free_memory(device)
    return bool(free < comfy.model_management.minimum_inference_memory())


def _outputs(network: nn.Module, known: Architecture | None, size: Sequence[int]) -> Iterator[int]:
    """Elements of each output (tokens * channels) of one kind of attention, for one latent of this size."""
    if known is UNET:
        yield from _unet_outputs(network, *size[-2:])
    elif known is not None:
        tokens = known.token_count(network, size)
        for site in attention_sites(network, known):
            if site.rule.kind == CROSS_ATTENTION:
                yield tokens * _channels(site.module)


def _channels(attention: nn.Module) -> int:
    """Width of what an attention puts out: that of its last layer."""
    *_, last = (module for module in attention.modules() if isinstance(module, nn.Linear))
    return last.out_features


def _unet_outputs(unet: UNetModel, height: int, width: int) -> Iterator[int]:
    scale = 1
    middle = [] if unet.middle_block is None else [unet.middle_block]
    for stage in (*unet.input_blocks, *middle, *unet.output_blocks):
        for layer in stage:
            if isinstance(layer, Downsample):
                scale *= 2
            elif isinstance(layer, Upsample):
                scale //= 2
            elif hasattr(layer, "transformer_blocks"):
                tokens = math.ceil(height / scale) * math.ceil(width / scale)
                blocks = (*layer.transformer_blocks, *getattr(layer, "time_stack", ()))
                yield from (tokens * block.attn1.to_q.in_features for block in blocks)
