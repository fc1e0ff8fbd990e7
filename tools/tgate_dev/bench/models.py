"""Full-size models of the host's own classes as shapes alone: no weights, no memory, any machine.

The sampler, the guider and the nodes run for real on the CPU; only the network is run on shapes, and answers with
zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import comfy.supported_models
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from .shapes import META, ShapeOperations, WeightsOnMeta, run_on_meta

_CPU = torch.device("cpu")


def _nothing() -> dict[str, Any]:
    return {}


def _as_it_is(network: Any) -> None:
    pass


@dataclass(frozen=True)
class FullSizeModel:
    """A published architecture, and the size of what is usually made with it.

    Attributes:
        host_class: its class in `comfy.supported_models`.
        latent_shape: of one picture, video or piece of music, (1, channels, …); where the host has the frames in the
            batch dimension, (frames, channels, …).
        text: tokens and width of the text that it reads.
        network: what the host reads from a checkpoint of it.
        conditioning: makes what else a conditioning of it holds, by the host's names.
        weights: makes those weights that the host needs in order to make a model of this class.
        prepare: replaces in the network what cannot be run on shapes.
    """

    host_class: str
    latent_shape: tuple[int, ...]
    text: tuple[int, int]
    network: Mapping[str, Any] = field(repr=False)
    conditioning: Callable[[], dict[str, Any]] = field(default=_nothing, repr=False)
    weights: Callable[[], dict[str, Tensor]] = field(default=_nothing, repr=False)
    prepare: Callable[[Any], None] = field(default=_as_it_is, repr=False)


def build_on_meta(model: FullSizeModel, operations: type = ShapeOperations) -> ModelPatcher:
    """The model as ComfyUI's loaders return it, in half precision, without weights.

    Args:
        model: what to build.
        operations: the classes of its layers.
    """
    config = getattr(comfy.supported_models, model.host_class)(model.network)
    config.set_inference_dtype(config.supported_inference_dtypes[0], None)
    config.custom_operations = operations
    weights = model.weights()
    with WeightsOnMeta():
        base = config.get_model(weights, device=_CPU)
    base.diffusion_model.to(META)
    model.prepare(base.diffusion_model)
    run_on_meta(base.diffusion_model)
    patcher = ModelPatcher(base, load_device=_CPU, offload_device=_CPU)
    # There is nothing to load, and `meta` parameters cannot be moved: the model counts as loaded in full.
    base.model_loaded_weight_memory = patcher.model_size()
    return patcher


def blank_conditioning(model: FullSizeModel) -> list[list[Any]]:
    """A conditioning of the right shape: text (1, tokens, width), and what else the model takes."""
    return [[torch.zeros(1, *model.text), model.conditioning()]]
