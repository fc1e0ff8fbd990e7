"""The pack as ComfyUI loads it, and what the benchmarks use of its core."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from torch import nn

PACK = Path(__file__).absolute().parents[3]
SELF_ATTENTION, CROSS_ATTENTION = "attn1", "attn2"
Nodes = Mapping[str, type[Any]]


class Macs(Protocol):
    """MACs as the core counts them: of layers, as in the papers, and with the matrix products of attention."""

    @property
    def layers(self) -> int: ...

    @property
    def full(self) -> int: ...


def load_pack_nodes() -> dict[str, Any]:
    """The pack's node classes by id, loaded as ComfyUI loads them; ComfyUI has to be on the path."""
    # First, as in ComfyUI's main.py: its nodes.py puts a folder on the path that holds another module of this name.
    importlib.import_module("utils.extra_config")
    nodes = load_nodes(PACK)
    if not nodes:
        raise RuntimeError("ComfyUI could not load the pack")
    return nodes


def load_nodes(folder: Path) -> dict[str, Any]:
    """The node classes of a pack by id, loaded as ComfyUI loads them; none where that fails."""
    import nodes

    before = dict(nodes.NODE_CLASS_MAPPINGS)
    if not asyncio.run(nodes.load_custom_node(str(folder))):
        return {}
    return {name: node for name, node in nodes.NODE_CLASS_MAPPINGS.items() if before.get(name) is not node}


def pack_core(nodes: Nodes) -> Callable[[str], ModuleType]:
    """Gets a module of the pack's core, as in `pack_core(nodes)("presets")`."""
    package = nodes["TGATEApply"].__module__.rsplit(".nodes.", 1)[0]
    return lambda name: sys.modules[f"{package}.tgate_core.{name}"]


def attention_sites(network: nn.Module, nodes: Nodes) -> list[Any]:
    """The attentions that the pack gates in a network of the host, as the core's `AttentionSite`s.

    Empty for a network that it does not know.
    """
    architectures = pack_core(nodes)("host.architectures")
    known = architectures.architecture_of(network)
    if known is architectures.UNET:
        # The one network whose attentions the core finds without their names.
        rules = (architectures.SiteRule(kind, rf".*\.{kind}") for kind in (SELF_ATTENTION, CROSS_ATTENTION))
        known = replace(known, rules=tuple(rules))
    return [] if known is None else architectures.attention_sites(network, known)


def scope_of(model: Any, nodes: Nodes) -> str:
    """What of a model (the host's ModelPatcher) the pack can gate, as the core's `Scope`."""
    scope: str = pack_core(nodes)("host.networks").scope_of(model)
    return scope


def presets(nodes: Nodes) -> tuple[str, ...]:
    """Names of the presets, the default first."""
    return tuple(pack_core(nodes)("presets").PRESETS)


def preset(model: Any, nodes: Nodes) -> Any:
    """The core's PresetConfig of the default preset for a model (the host's ModelPatcher)."""
    core = pack_core(nodes)
    return core("presets").PresetConfig(core("host.networks").family_of(model))
