"""The networks that are timed: published architectures with random weights, and the same without attentions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ..models import PIXART_ALPHA, SD15, SD21, SDXL, TEXT_TOKENS, FullSizeModel, square_latent, unet
from ..pack import Nodes, attention_sites, pack_core
from .weights import USUAL, Int8Operations, LoadedInPart, Weights, quantise

SEED = 0
CPU = torch.device("cpu")
# At the published size a run on the CPU takes the better part of an hour. PixArt's class divides by zero below 320.
PIXELS_ON_CPU = {"tiny": 64, "pixart-alpha": 320}
USUAL_PIXELS_ON_CPU = 256
# Names of normalisation factors in the host's classes.
_SCALES = ("weight", "gamma")
# For trying out the benchmark itself.
_TINY_UNET = unet(((1, 1), (2, 1)), middle=1, blocks=1, model_channels=32, context_dim=32)
TINY = FullSizeModel("SD15", square_latent(64), (TEXT_TOKENS, 32), _TINY_UNET)
TIMED_MODELS = {"tiny": TINY, "sd15": SD15, "sd21": SD21, "sdxl": SDXL, "pixart-alpha": PIXART_ALPHA}


def timed_model(name: str, device: torch.device) -> FullSizeModel:
    """The model of that name, at its published size on a GPU and at a smaller one on the CPU."""
    model = TIMED_MODELS[name]
    if device.type != "cpu":
        return model
    return replace(model, latent_shape=square_latent(PIXELS_ON_CPU.get(name, USUAL_PIXELS_ON_CPU)))


def build_random(
    model: FullSizeModel, device: torch.device, dtype: torch.dtype, weights: Weights = USUAL
) -> ModelPatcher:
    """The model as ComfyUI's loaders return it, on the device, with seeded weights that are kept as they say."""
    config = model.host_config()
    # Of weights in fewer bits the host is told what they are cast to.
    config.set_inference_dtype(weights.dtype or dtype, weights.dtype and dtype)
    if weights.is_quantised:
        config.custom_operations = Int8Operations
    base = config.get_model({}, device=device)
    base.to(device)
    _randomise(base.diffusion_model, device, dtype)
    if weights.dtype is not None:
        base.diffusion_model.to(weights.dtype)
    if weights.is_quantised:
        quantise(base.diffusion_model)
    if weights.share == 1:
        return ModelPatcher(base, load_device=device, offload_device=device)
    base.to(CPU)
    return LoadedInPart.of(ModelPatcher(base, load_device=device, offload_device=CPU), weights.share)


def _randomise(network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Keeps activations in the usual range, for nodes that look at them and for half precision.

    Weights in fewer bits than torch draws numbers in become `dtype`.
    """
    generator = torch.Generator(device).manual_seed(SEED)
    for name, parameter in network.named_parameters():
        drawn = torch.empty_like(parameter, dtype=dtype if parameter.dtype.itemsize == 1 else parameter.dtype)
        if parameter.ndim == 1:
            drawn.fill_(1.0 if name.endswith(_SCALES) else 0.0)
        else:
            fan_in = parameter[0].numel()
            drawn.normal_(0.0, fan_in**-0.5, generator=generator)
        parameter.data = drawn


def random_conditioning(model: FullSizeModel, seed: int) -> list[list[Any]]:
    """A conditioning with random text (1, tokens, width) and the model's other inputs."""
    text = torch.randn(1, *model.text, generator=torch.Generator().manual_seed(seed))
    return [[text, dict(model.conditioning)]]


def random_noise(model: FullSizeModel, batch: int) -> Tensor:
    """Seeded noise, (batch, C, H, W)."""
    return torch.randn(batch, *model.latent_shape[1:], generator=torch.Generator().manual_seed(SEED))


def twin(patcher: ModelPatcher) -> ModelPatcher:
    """A second network with the same weights, of a model that was not sampled yet: sampling adds its patcher to it.

    Changes to the layers of one do not affect the other.
    """
    # The host's configuration cannot be copied and is only read.
    shared = (*patcher.model.parameters(), *patcher.model.buffers(), patcher.model.model_config)
    model = copy.deepcopy(patcher.model, {id(item): item for item in shared})
    return type(patcher)(model, load_device=patcher.load_device, offload_device=patcher.offload_device)


class Nothing(nn.Module):
    """Stands in for an attention: returns its input, (B, tokens, channels), in the form of the attention's output."""

    def __init__(self, input_name: str, pack: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self._input_name, self._pack = input_name, pack

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The attention's first parameter."""
        return self._pack(args[0] if args else kwargs[self._input_name])


@contextmanager
def without_attentions(network: nn.Module, kinds: Collection[str], nodes: Nodes) -> Iterator[None]:
    """Removes the attentions of these kinds from the host's network while it lasts: no hook or patch remains of them.

    Nothing that skips them can cost less: this is what rows are held against, their oracle.

    Raises:
        ValueError: the network has none that the pack gates.
    """
    sites = [site for site in attention_sites(network, nodes) if site.rule.kind in kinds]
    if kinds and not sites:
        raise ValueError("T-GATE knows no attentions of this network")
    core = pack_core(nodes)("host.architectures")
    known = core.architecture_of(network)
    try:
        for site in sites:
            network.set_submodule(site.name, Nothing(known.input_name, partial(core.pack, rule=site.rule)))
        yield
    finally:
        for site in sites:
            network.set_submodule(site.name, site.module)
