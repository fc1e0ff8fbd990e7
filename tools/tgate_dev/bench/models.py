"""Full-size models of the host's own classes without weights, for any machine.

The sampler, the guider and the nodes run for real on the CPU; the network runs on shapes and returns zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import comfy.ops
import comfy.sample
import comfy.samplers
import comfy.supported_models
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from .pack import Macs, Nodes, macs_counter
from .shapes import META, WeightsOnMeta, run_on_meta

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class FullSizeModel:
    """A published architecture and its usual output.

    Attributes:
        host_class: its class in `comfy.supported_models`.
        latent_shape: of one picture, video or piece of music, (1, channels, …); (frames, channels, …) where the host
            keeps frames in the batch dimension.
        text: tokens and width of its text.
        network: configuration that the host reads from its checkpoint.
        conditioning: makes the other entries of its conditionings, by the host's names.
        weights: makes the weights that the host needs to construct a model of this class.
        prepare: replaces what the network cannot do on shapes.
    """

    host_class: str
    latent_shape: tuple[int, ...]
    text: tuple[int, int]
    network: Mapping[str, Any] = field(repr=False)
    conditioning: Callable[[], dict[str, Any]] = field(default=dict, repr=False)
    weights: Callable[[], dict[str, Tensor]] = field(default=dict, repr=False)
    prepare: Callable[[Any], None] = field(default=lambda network: None, repr=False)


def build_on_meta(model: FullSizeModel) -> ModelPatcher:
    """The model as ComfyUI's loaders return it, in half precision and without weights."""
    config = getattr(comfy.supported_models, model.host_class)(model.network)
    config.set_inference_dtype(config.supported_inference_dtypes[0], None)
    config.custom_operations = comfy.ops.disable_weight_init
    weights = model.weights()
    with WeightsOnMeta():
        base = config.get_model(weights, device=_CPU)
    base.diffusion_model.to(META)
    model.prepare(base.diffusion_model)
    patcher = ModelPatcher(base, load_device=_CPU, offload_device=_CPU)
    # `meta` parameters cannot be moved: the model counts as loaded.
    base.model_loaded_weight_memory = patcher.model_size()
    return patcher


def count_macs(patcher: ModelPatcher, model: FullSizeModel, nodes: Nodes, **run: Any) -> Macs:
    """MACs of one run, see `sample`."""
    with macs_counter(nodes) as counter:
        sample(patcher, model, **run)
    macs: Macs = counter.macs
    return macs


def sample(
    patcher: ModelPatcher,
    model: FullSizeModel,
    *,
    steps: int,
    cfg: float,
    sampler: str = "euler",
    scheduler: str = "normal",
) -> None:
    """Sample once through the host's sampler.

    Args:
        patcher: from `build_on_meta`, possibly patched by nodes.
        model: the architecture it was built from.
        steps: sampling steps.
        cfg: guidance scale; 1 leaves the second branch out.
        sampler: the host's name of a sampler.
        scheduler: the host's name of a scheduler.
    """
    sigmas = comfy.samplers.calculate_sigmas(patcher.get_model_object("model_sampling"), scheduler, steps)
    noise, empty = torch.ones(model.latent_shape), torch.zeros(model.latent_shape)
    positive, negative = ([[torch.zeros(1, *model.text), model.conditioning()]] for _ in range(2))
    method = comfy.samplers.sampler_object(sampler)
    given = (patcher, noise, cfg, method, sigmas, positive, negative, empty)
    with run_on_meta(patcher.model.diffusion_model):
        comfy.sample.sample_custom(*given, disable_pbar=True, seed=0)
