"""Applying the host's own nodes to a tiny model, whichever of its two node interfaces they have."""

from __future__ import annotations

import importlib
import inspect
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import comfy.sd
import pytest
import safetensors.torch
import tiny
import torch
from comfy.model_patcher import ModelPatcher

NodeFunction = Callable[[ModelPatcher], ModelPatcher]
# A single level: half the cost of `tiny.sd15`, for nodes that do not care about levels.
ONE_LEVEL: dict[str, Any] = {
    "num_res_blocks": [1],
    "channel_mult": [1],
    "transformer_depth": [1],
    "transformer_depth_output": [1, 1],
}
LORA = {"lora_name": "tiny_lora.safetensors", "strength_model": 0.8}
_FILES = tempfile.TemporaryDirectory()


def host_class(module: str, name: str) -> type[Any]:
    """A node class of the host; skips the test where this version of the host lacks it."""
    try:
        return getattr(importlib.import_module(module), name)
    except (ModuleNotFoundError, AttributeError):
        pytest.skip(f"host has no {name} node")


def call_node(cls: type[Any], **inputs: Any) -> Any:
    """First output of a node; skips the test where this version of the node lacks an input."""
    function = cls.execute if hasattr(cls, "define_schema") else getattr(cls(), cls.FUNCTION)
    known = inspect.signature(function).parameters
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in known.values())
    unknown = [name for name in inputs if name not in known]
    if unknown and not takes_any:
        pytest.skip(f"host's {cls.__name__} node has no input {unknown[0]}")
    return function(**inputs)[0]


def host_node(module: str, name: str, **inputs: Any) -> NodeFunction:
    """Applies a node of `comfy_extras` that has a model among its inputs."""

    def apply(model: ModelPatcher) -> ModelPatcher:
        return call_node(host_class(f"comfy_extras.{module}", name), model=model, **inputs)

    return apply


def merge_node(name: str, **inputs: Any) -> NodeFunction:
    """Applies a node that merges a second model into the first."""

    def apply(model: ModelPatcher) -> ModelPatcher:
        cls = host_class("comfy_extras.nodes_model_merging", name)
        return call_node(cls, model1=model, model2=second_model(), **inputs)

    return apply


@cache
def second_model() -> ModelPatcher:
    """Another model of the same shape, to merge with."""
    return tiny.sd15(seed=7, **ONE_LEVEL)


@cache
def model_files() -> Path:
    """A folder, known to the host, with a LoRA of every attention and a hypernetwork for their width."""
    import folder_paths

    folder = Path(_FILES.name)
    generator = torch.Generator().manual_seed(5)
    lora: dict[str, torch.Tensor] = {}
    state = second_model().model.state_dict()
    for key in [key for key in state if ".attn" in key and key.endswith("weight")]:
        name = "lora_unet_" + key.removeprefix("diffusion_model.").removesuffix(".weight").replace(".", "_")
        rows, columns = state[key].shape
        lora[f"{name}.lora_up.weight"] = torch.randn(rows, 2, generator=generator) * 0.2
        lora[f"{name}.lora_down.weight"] = torch.randn(2, columns, generator=generator) * 0.2
    safetensors.torch.save_file(lora, folder / LORA["lora_name"])
    linear = {"linear.0.weight": torch.randn(32, 32, generator=generator) * 0.1, "linear.0.bias": torch.zeros(32)}
    torch.save({32: [linear, linear]}, folder / "tiny_hypernetwork.pt")
    for kind in ("loras", "hypernetworks"):
        folder_paths.add_model_folder_path(kind, str(folder))
    return folder


def with_files(apply: NodeFunction) -> NodeFunction:
    """`apply`, with `model_files` in place."""

    def applied(model: ModelPatcher) -> ModelPatcher:
        model_files()
        return apply(model)

    return applied


def lora_in_memory(model: ModelPatcher) -> ModelPatcher:
    """A LoRA through the host's own function for it."""
    lora = safetensors.torch.load_file(model_files() / LORA["lora_name"])
    return comfy.sd.load_lora_for_models(model, None, lora, 0.8, 0.0)[0]


def lora_from_file(model: ModelPatcher) -> ModelPatcher:
    """The same LoRA through the host's loader node."""
    return call_node(host_class("nodes", "LoraLoaderModelOnly"), model=model, **LORA)


def gpu_options(model: ModelPatcher) -> ModelPatcher:
    """The multi-GPU options node, its options registered on a model for one device."""
    cls = host_class("comfy_extras.nodes_multigpu", "MultiGPUOptionsNode")
    patched = model.clone()
    call_node(cls, device_index=0, relative_speed=2.0).register(patched)
    return patched


def noise_scale(model: ModelPatcher) -> ModelPatcher:
    """ModelNoiseScale, which wants a flow model."""
    flow = host_node("nodes_model_advanced", "ModelSamplingSD3", shift=3.0)
    return host_node("nodes_model_advanced", "ModelNoiseScale", noise_scale=1.5)(flow(model))
