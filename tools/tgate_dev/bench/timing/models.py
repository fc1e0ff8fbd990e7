"""Published architectures with random weights, on the measured device."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import comfy.supported_models
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ..dits import PIXART_ALPHA
from ..models import FullSizeModel
from ..unets import SD15, SD21, SDXL, TEXT_TOKENS, square_latent

SEED = 0
# At the published size a run on the CPU takes the better part of an hour. PixArt's class divides by zero below 320.
PIXELS_ON_CPU = {"tiny": 64, "pixart-alpha": 320}
USUAL_PIXELS_ON_CPU = 256
# Names of normalisation factors in the host's classes.
_SCALES = ("weight", "gamma")
# For trying out the benchmark itself.
_TINY_UNET = {"model_channels": 32, "channel_mult": [1, 2], "num_res_blocks": [1, 1], "context_dim": 32, "num_heads": 4}
_TINY_DEPTH = {"transformer_depth": [1, 1], "transformer_depth_output": [1, 1, 1, 1], "num_head_channels": -1}
TINY = FullSizeModel("SD15", square_latent(64), (TEXT_TOKENS, 32), {**SD15.network, **_TINY_UNET, **_TINY_DEPTH})
TIMED_MODELS = {"tiny": TINY, "sd15": SD15, "sd21": SD21, "sdxl": SDXL, "pixart-alpha": PIXART_ALPHA}


def timed_model(name: str, device: torch.device) -> FullSizeModel:
    """The model of that name, at its published size on a GPU and at a smaller one on the CPU."""
    model = TIMED_MODELS[name]
    if device.type != "cpu":
        return model
    return replace(model, latent_shape=square_latent(PIXELS_ON_CPU.get(name, USUAL_PIXELS_ON_CPU)))


def build_random(model: FullSizeModel, device: torch.device, dtype: torch.dtype) -> ModelPatcher:
    """The model as ComfyUI's loaders return it, on the device, with seeded weights."""
    config = getattr(comfy.supported_models, model.host_class)(dict(model.network))
    config.set_inference_dtype(dtype, None)
    base = config.get_model({}, device=device)
    _randomise(base.diffusion_model, device)
    base.to(device)
    return ModelPatcher(base, load_device=device, offload_device=device)


def twin(patcher: ModelPatcher) -> ModelPatcher:
    """A second network with the same weights: changes to its layers do not affect the first.

    Args:
        patcher: a model that was not sampled yet: sampling makes it refer to its patcher.
    """
    # The host's configuration cannot be copied and is only read.
    shared = (*patcher.model.parameters(), *patcher.model.buffers(), patcher.model.model_config)
    model = copy.deepcopy(patcher.model, {id(item): item for item in shared})
    return ModelPatcher(model, load_device=patcher.load_device, offload_device=patcher.offload_device)


def random_conditioning(model: FullSizeModel, seed: int) -> list[list[Any]]:
    """A conditioning with random text (1, tokens, width) and the model's other inputs."""
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(1, *model.text, generator=generator), model.conditioning()]]


def random_noise(model: FullSizeModel, batch: int) -> Tensor:
    """Seeded noise, (batch, C, H, W)."""
    return torch.randn(batch, *model.latent_shape[1:], generator=torch.Generator().manual_seed(SEED))


def _randomise(network: nn.Module, device: torch.device) -> None:
    """Keeps activations in the usual range, for nodes that look at them and for half precision."""
    generator = torch.Generator(device).manual_seed(SEED)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 1:
            parameter.data.fill_(1.0 if name.endswith(_SCALES) else 0.0)
        else:
            fan_in = parameter[0].numel()
            parameter.data.normal_(0.0, fan_in**-0.5, generator=generator)
