"""The UNet: a small one of the host's SD 1.5 class, trained here, and the full-size one that is the same function."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import text, training, world
from .vae import latents

WIDE, COPIES = 320, 5  # SD 1.5's channels, and how many of them stand for one of the small network
CONFIG: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": WIDE // COPIES,
    "num_res_blocks": [1, 1, 1],
    "channel_mult": [1, 1, 2],
    "transformer_depth": [0, 1, 0],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [0, 0, 1, 1, 1, 1],
    "context_dim": text.WIDTH,
    "num_heads": 8,
    "num_head_channels": -1,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "legacy": False,
}
WIDE_CONFIG = {**CONFIG, "model_channels": WIDE}
STEPS, BATCH, RATE, SEED = 2800, 48, 1.2e-3, 15
# Once it paints at all, one batch in four is of pictures twice as large, and a quarter as many; later, one in two.
LARGE_FROM, MORE_LARGE_FROM = 400, 800


def small_network() -> Any:
    """The host's UNet with a fifth of the channels; its time embedding reads the sinusoid of the full size."""
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    network: Any = UNetModel(**CONFIG, operations=comfy.ops.disable_weight_init)
    network.model_channels = WIDE
    network.time_embed[0] = nn.Linear(WIDE, 4 * CONFIG["model_channels"])
    return network


def host_model() -> Any:
    """The host's model of SD 1.5, with a network that is to be replaced."""
    import comfy.model_base
    import comfy.supported_models

    return comfy.model_base.BaseModel(comfy.supported_models.SD15({**CONFIG, "dtype": torch.float32}))


def widened(weights: dict[str, Tensor], shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """The weights of the full-size network that computes what the small one does.

    Each channel is there `COPIES` times: an input is shared out among the copies, a group of a norm keeps its
    statistics, and a query is made smaller by as much as the longer product with a key grows against its scale.

    Args:
        weights: of the small network.
        shapes: of the parameters of the full-size one.
    """
    wide = {}
    for name, weight in weights.items():
        shape = shapes[name]
        if weight.shape[0] != shape[0]:
            weight = weight.repeat_interleave(COPIES, 0)
        if weight.ndim > 1 and weight.shape[1] != shape[1]:
            weight = weight.repeat_interleave(COPIES, 1) / COPIES
        wide[name] = weight / COPIES**0.5 if name.endswith("to_q.weight") else weight
    return wide


def train(state: Path) -> nn.Module:
    """The small network, trained from nothing or from where `state` left off."""
    from comfy.model_sampling import ModelSamplingDiscrete

    torch.manual_seed(SEED)
    network: nn.Module = small_network()
    initialize(network)
    kept = 1 / (1 + ModelSamplingDiscrete().sigmas ** 2)
    options = {"optimized_attention_override": compact_attention}

    def loss(generator: torch.Generator, step: int) -> Tensor:
        is_large = step >= LARGE_FROM and step % (2 if step >= MORE_LARGE_FROM else 4) == 0
        count, size = (BATCH // 4, 2 * world.SIZE) if is_large else (BATCH, world.SIZE)
        scenes = world.draw_to_train_on(count, generator, size)
        prompts = world.prompts_to_train_on(scenes.attributes, generator)
        # A little more often where the noise is strong: there it is decided what is painted.
        time = (len(kept) * torch.rand(count, generator=generator) ** 0.75).long()
        clean, share = latents(scenes.pictures), kept[time].view(-1, 1, 1, 1)
        noise = torch.randn(clean.shape, generator=generator)
        noisy = share.sqrt() * clean + (1 - share).sqrt() * noise
        given, noise, context = (part.to(training.DEVICE) for part in (noisy, noise, text.conditioning(prompts)))
        predicted = network(given, time.float().to(training.DEVICE), context=context, transformer_options=options)
        error: Tensor = (predicted - noise).square().mean()
        return error

    training.train("Training the UNet", network, loss, state, STEPS, RATE, SEED)
    return network


def initialize(network: nn.Module) -> None:
    """Random weights; what a block adds is nothing at first."""
    for name, weight in network.named_parameters():
        weight.requires_grad_(True)
        if weight.ndim == 1:
            nn.init.constant_(weight, 1.0 if name.endswith("weight") else 0.0)
        else:
            nn.init.kaiming_uniform_(weight, a=math.sqrt(5))
        if name.endswith("to_k.weight"):
            weight.data *= 3.0
        if name.endswith(("out_layers.3.weight", "proj_out.weight", "out.2.weight")):
            nn.init.zeros_(weight)


def compact_attention(_: object, query: Tensor, key: Tensor, value: Tensor, heads: int, **__: Any) -> Tensor:
    """Attention, to a text whose last place stands for all the padding as well; (batch, tokens, channels) each."""
    query, key, value = (torch.stack(part.chunk(heads, 2), 1) for part in (query, key, value))
    scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
    if key.shape[2] == text.OWN_PLACES + 1:
        scores = scores + padding_weight().to(scores.device)
    return torch.cat((scores.softmax(-1) @ value).unbind(1), 2)


@functools.cache
def padding_weight() -> Tensor:
    """Added to the scores of a compact text: (9,)."""
    return torch.tensor([0.0] * text.OWN_PLACES + [math.log(text.PADDING)])
