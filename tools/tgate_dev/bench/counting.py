"""Runs full-size models without weights, on any machine, and counts their MACs.

The sampler, the guider and the nodes run for real on the CPU; the network runs on shapes, on torch's `meta` device, and
returns zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.nested_tensor
import comfy.ops
import comfy.sample
import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from .models import FullSizeModel
from .pack import Macs, Nodes, pack_core

_CPU = torch.device("cpu")
_META = torch.device("meta")


def build_on_meta(model: FullSizeModel) -> ModelPatcher:
    """The model as ComfyUI's loaders return it, in half precision and without weights."""
    config = model.host_config()
    config.set_inference_dtype(config.supported_inference_dtypes[0], None)
    config.custom_operations = comfy.ops.disable_weight_init
    with _WeightsOnMeta():
        base = config.get_model(dict(model.weights), device=_CPU)
    base.diffusion_model.to(_META)
    model.prepare(base.diffusion_model)
    patcher = ModelPatcher(base, load_device=_CPU, offload_device=_CPU)
    # `meta` parameters cannot be moved: the model counts as loaded.
    base.model_loaded_weight_memory = patcher.model_size()
    return patcher


def count_macs(patcher: ModelPatcher, model: FullSizeModel, nodes: Nodes, **run: Any) -> Macs:
    """MACs of one run, see `sample`, by the core's counter."""
    with pack_core(nodes)("host.macs").MacsCounter() as counter:
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
    """Sample once through the host's sampler, at cfg 1 without the second branch.

    Args:
        patcher: from `build_on_meta`, possibly patched by nodes.
        model: the architecture it was built from.
    """
    sigmas = comfy.samplers.calculate_sigmas(patcher.get_model_object("model_sampling"), scheduler, steps)
    noise, empty = _latent(model, 1.0), _latent(model, 0.0)
    positive, negative = ([[torch.zeros(1, *model.text), dict(model.conditioning)]] for _ in range(2))
    method = comfy.samplers.sampler_object(sampler)
    given = (patcher, noise, cfg, method, sigmas, positive, negative, empty)
    with _run_on_meta(patcher.model.diffusion_model):
        comfy.sample.sample_custom(*given, disable_pbar=True, seed=0)


def _latent(model: FullSizeModel, value: float) -> Any:
    """A latent that has the value everywhere; video and sound are two in one."""
    latent = torch.full(model.latent_shape, value)
    if model.sound_shape is None:
        return latent
    return comfy.nested_tensor.NestedTensor((latent, torch.full(model.sound_shape, value)))


class _WeightsOnMeta(TorchFunctionMode):
    """Puts the weights of modules made meanwhile on `meta`: the host allocates them with `torch.empty`.

    Constructors also make small tables and read from them, so `meta` cannot be the default device.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.empty and kwargs.get("device") is not None:
            kwargs = {**kwargs, "device": _META}
        return func(*args, **kwargs)


@contextmanager
def _run_on_meta(network: nn.Module) -> Iterator[None]:
    """Lets a network with parameters on `meta` take CPU tensors and return zeros, so that the sampler runs for real.

    Hooks on the network itself: not all of the host's networks run its DIFFUSION_MODEL wrappers.
    """

    def to_meta(_network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        moved_args, moved = tree_map_only(Tensor, lambda tensor: tensor.to(_META), (args, kwargs))
        # The nodes read these.
        return moved_args, {**moved, "transformer_options": kwargs["transformer_options"]}

    def to_zeros(_network: nn.Module, _args: Any, output: Any) -> Any:
        return tree_map_only(Tensor, lambda tensor: torch.zeros(tensor.shape, dtype=tensor.dtype), output)

    hooks = network.register_forward_pre_hook(to_meta, with_kwargs=True), network.register_forward_hook(to_zeros)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
