"""Networks of the published architectures with random weights, on the device that is measured."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import comfy.supported_models
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ...demo.standin import UNET_CONFIG as STANDIN_UNET
from ...errors import UserError
from ..dits import PIXART_ALPHA
from ..models import FullSizeModel
from ..unets import PIXELS_PER_LATENT, SD15, SD21, SDXL, TEXT_TOKENS, square_latent

SEED = 0
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Without a graphics card, a run of published size would take the better part of an hour.
PIXELS_ON_CPU = 256
# Below that, the host's class of the model divides by zero.
SMALLEST_PIXELS = {"pixart-alpha": 320}
# What the host's classes call the factors of a normalisation.
_SCALES = ("weight", "gamma")

# The demo's: three of SD 1.5's four levels, half the blocks, 320 channels throughout.
STANDIN = replace(SD15, network={**SD15.network, **STANDIN_UNET})
# For trying out the measurement itself.
TINY = FullSizeModel(
    "SD15",
    square_latent(64),
    (TEXT_TOKENS, 32),
    {
        **SD15.network,
        "model_channels": 32,
        "channel_mult": [1, 2],
        "num_res_blocks": [1, 1],
        "transformer_depth": [1, 1],
        "transformer_depth_output": [1, 1, 1, 1],
        "context_dim": 32,
        "num_heads": 4,
        "num_head_channels": -1,
    },
)
TIMED_MODELS = {
    "tiny": TINY,
    "standin": STANDIN,
    "sd15": SD15,
    "sd21": SD21,
    "sdxl": SDXL,
    "pixart-alpha": PIXART_ALPHA,
}


def timed_model(name: str, pixels: int | None, device: torch.device) -> FullSizeModel:
    """The model of that name for square pictures of so many pixels each way; when None, of the device's usual size.

    Raises:
        UserError: the model makes no pictures that small.
    """
    model, smallest = TIMED_MODELS[name], SMALLEST_PIXELS.get(name, 0)
    if pixels is not None and pixels < smallest:
        raise UserError(f"{name} makes no pictures of {pixels} pixels: give --pixels {smallest} or more.")
    usual = model.latent_shape[-1] * PIXELS_PER_LATENT
    on_device = min(usual, max(smallest, PIXELS_ON_CPU)) if device.type == "cpu" else usual
    return replace(model, latent_shape=square_latent(pixels or on_device))


def build_random(model: FullSizeModel, device: torch.device, dtype: torch.dtype) -> ModelPatcher:
    """The model as ComfyUI's loaders return it, all of it on the device; the weights are the same each time."""
    config = getattr(comfy.supported_models, model.host_class)(dict(model.network))
    config.set_inference_dtype(dtype, None)
    base = config.get_model({}, device=device)
    _randomise(base.diffusion_model, device)
    base.to(device)
    return ModelPatcher(base, load_device=device, offload_device=device)


def twin(patcher: ModelPatcher) -> ModelPatcher:
    """The same weights in a network of its own: what is done to its layers does not show in the other.

    Args:
        patcher: a model that was not sampled yet: from then on it knows its patcher.
    """
    # The host's configuration cannot be copied, and is only read.
    shared = (*patcher.model.parameters(), *patcher.model.buffers(), patcher.model.model_config)
    model = copy.deepcopy(patcher.model, {id(item): item for item in shared})
    return ModelPatcher(model, load_device=patcher.load_device, offload_device=patcher.offload_device)


def random_conditioning(model: FullSizeModel, seed: int) -> list[list[Any]]:
    """A conditioning with random text (1, tokens, width), and what else the model takes."""
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(1, *model.text, generator=generator), model.conditioning()]]


def random_noise(model: FullSizeModel, batch: int) -> Tensor:
    """Seeded noise, (batch, C, H, W)."""
    return torch.randn(batch, *model.latent_shape[1:], generator=torch.Generator().manual_seed(SEED))


def _randomise(network: nn.Module, device: torch.device) -> None:
    """Values that keep activations of ordinary size, for nodes that look at them and for half precision."""
    generator = torch.Generator(device).manual_seed(SEED)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 1:
            parameter.data.fill_(1.0 if name.endswith(_SCALES) else 0.0)
        else:
            fan_in = parameter[0].numel()
            parameter.data.normal_(0.0, fan_in**-0.5, generator=generator)
