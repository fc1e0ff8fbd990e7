"""Memory: how much the captures of a run will take, and telling the host before it loads the model."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import comfy.model_management
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, UNetModel, Upsample
from torch import nn

from ..engine.actions import CROSS_ATTENTION
from ..engine.run import Run
from .architectures import UNET, Architecture, attention_sites
from .keys import RUN_KEY
from .networks import architecture
from .reporting import TELL_US, harmless
from .unet_blocks import feature_size

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.patcher_extension import WrapperExecutor

BRANCHES = 2


def prepare_sampling_wrapper(executor: WrapperExecutor, *args: Any, **kwargs: Any) -> Any:
    """Around the host's loading of the model: makes it leave room for the captures, and keeps when it was done.

    Positional: model patcher, noise_shape (B, C, …), conds.
    """
    model_options = kwargs.get("model_options") or {}
    run: Run | None = model_options.get("transformer_options", {}).get(RUN_KEY)
    if run is None:
        return executor(*args, **kwargs)
    result = executor(*_with_room(run, model_options, *args), **kwargs)
    run.loaded_at = time.monotonic()
    return result


def _with_room(run: Run, model_options: dict[str, Any], patcher: Any, noise_shape: Sequence[float], *rest: Any) -> Any:
    """The arguments of the host's loading, with room for the captures.

    The host's estimate is linear in the latent's size, so room is asked for as a wider latent, which the host uses for
    nothing else.
    """
    if run.context.settings.device == "cpu":
        return patcher, noise_shape, *rest
    shape, windowed_dim = _shape_at_once(noise_shape, model_options)
    base = patcher.model.memory_required(shape)
    wider, free_dim = list(noise_shape), len(shape) - (2 if windowed_dim == len(shape) - 1 else 1)
    if base > 0:
        wider[free_dim] *= 1 + _bytes_to_reserve(run, patcher, base) / base
    return patcher, wider, *rest


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
    expected = 0
    with harmless("foreseeing the memory that captures take", f"Sampling may run short of memory; {TELL_US}"):
        expected = expected_capture_bytes(run, patcher)
    if run.context.settings.device != "auto":
        return expected
    total = comfy.model_management.get_total_memory(patcher.load_device)
    taken = base + patcher.model_size() + comfy.model_management.minimum_inference_memory()
    return max(0.0, min(expected, total - taken))


def expected_capture_bytes(run: Run, patcher: ModelPatcher) -> int:
    """Most bytes of captures that a run will hold at once, both branches and all context windows together."""
    batch, _, *size = run.latent_shape
    sizes = _Sizes(patcher.model.diffusion_model, architecture(patcher), size)
    elements = sum(technique.held_elements(sizes) for technique in run.techniques)
    expected = BRANCHES * batch * elements * comfy.model_management.dtype_size(patcher.model.get_dtype_inference())
    limit = run.context.settings.limit_mb * 2**20
    return min(expected, limit) if limit else expected


@dataclass(frozen=True)
class _Sizes:
    """What can be captured in a network of one latent of this size (height and width, or more dimensions)."""

    network: nn.Module
    known: Architecture | None
    size: Sequence[int]

    def attention_outputs(self) -> int:
        """Elements of the outputs of all attentions of one kind."""
        return sum(_outputs(self.network, self.known, self.size))

    def deep_feature(self, branch: int) -> int:
        """Elements of the deep feature; 0 for a network that is not a UNet."""
        return feature_size(self.network, branch, *self.size[-2:])


def is_memory_short(device: torch.device) -> bool:
    """Whether the host itself would hold back on this device: less free than it reserves for inference."""
    free = comfy.model_management.get_free_memory(device)
    return bool(free < comfy.model_management.minimum_inference_memory())


def _outputs(network: nn.Module, known: Architecture | None, size: Sequence[int]) -> Iterator[int]:
    """Elements of each output (tokens * channels) of one kind of attention, for one latent of this size."""
    if known is UNET:
        yield from _unet_outputs(network, *size[-2:])
    elif known is not None and known.inline:
        yield known.inline_outputs(network, size)
    elif known is not None:
        tokens = known.token_count(network, size)
        for site in attention_sites(network, known):
            if site.rule.kind == CROSS_ATTENTION or not known.has_cross_attention:
                yield tokens * _channels(site.module)


def _channels(attention: nn.Module) -> int:
    """Width of what an attention puts out: that of its last layer. Quantized layers are of other packs' classes."""
    widths = [getattr(module, "out_features", None) for module in attention.modules()]
    return next((width for width in reversed(widths) if isinstance(width, int)), 0)


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
