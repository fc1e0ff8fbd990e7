"""Networks that torch compiles before they are timed."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_torch_compile import TorchCompileModel, skip_torch_compile_dict
from torch import nn

from .rows import node_patch

# Each row and its oracle is one more network to the compiler, whose own limit is meant for one.
COMPILED_VARIANTS = 64


def prepare_compiler() -> None:
    """Forget what was compiled, and let every row have its own."""
    torch.compiler.reset()
    torch._dynamo.config.recompile_limit = COMPILED_VARIANTS
    importlib.import_module("torch._inductor.config").triton.cudagraphs = False


def compiled_whole(patcher: ModelPatcher, backend: str = "inductor") -> ModelPatcher:
    """A clone whose network is compiled by the host's node."""
    return node_patch(TorchCompileModel, backend=backend)(patcher)


def compiled_blocks(patcher: ModelPatcher, backend: str = "inductor") -> ModelPatcher:
    """A clone of whose network each transformer block is compiled, as other packs' nodes do it."""
    compiled, network = patcher.clone(), patcher.get_model_object("diffusion_model")
    options = {"guard_filter_fn": skip_torch_compile_dict}
    keys = [f"diffusion_model.{name}" for name in _block_names(network)]
    set_torch_compile_wrapper(compiled, backend, options=options, keys=keys)
    return compiled


def _block_names(network: nn.Module) -> list[str]:
    """Of all that is in a list of blocks, by the names that the host gives to such lists."""
    lists = ("blocks", "layers", "transformer_blocks")
    found = [(name, module) for name, module in network.named_modules() if name.rpartition(".")[2] in lists]
    return [f"{name}.{index}" for name, module in found for index in range(len(_children(module)))]


def _children(module: Any) -> list[nn.Module]:
    return list(module.children()) if isinstance(module, nn.ModuleList) else []


SETTINGS = {"whole": compiled_whole, "blocks": compiled_blocks}
