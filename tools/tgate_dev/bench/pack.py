"""The pack as ComfyUI loads it, and everything that the benchmarks use of its core."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from torch import Tensor, nn

PACK = Path(__file__).absolute().parents[3]
# Where the pack keeps a run's state in transformer_options.
RUN_KEY = "tgate_run"
Nodes = Mapping[str, type[Any]]


class Macs(Protocol):
    """MACs as the core counts them: of layers, as in the papers, and with the matrix products of attention."""

    @property
    def layers(self) -> int: ...

    @property
    def full(self) -> int: ...


@dataclass(frozen=True)
class Attention:
    """An attention that the pack gates.

    Attributes:
        kind: attn1 is self-, attn2 cross-attention.
        path: full name in the network.
        module: the attention module.
        input_name: name of its first parameter.
        pack: turns output tokens, (B, tokens, channels), into what the module returns.
    """

    kind: str
    path: str
    module: nn.Module
    input_name: str
    pack: Callable[[Tensor], Any]


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
    """Gets a module of the pack's core, as in `pack_core(nodes)("gate.presets")`."""
    package = nodes["TGATEApply"].__module__.rsplit(".nodes.", 1)[0]

    def module(name: str) -> ModuleType:
        return sys.modules[f"{package}.tgate_core.{name}"]

    return module


def attentions(network: nn.Module, nodes: Nodes) -> list[Attention]:
    """The attentions that the pack gates in a network of the host; none if it does not know the network."""
    core = pack_core(nodes)
    architectures = core("host.architectures")
    known = architectures.architecture_of(network)
    if known is None:
        return []
    if known is architectures.UNET:
        gated = set(core("host.networks").attention_modules(network))
        found = [(name, module) for name, module in network.named_modules() if module in gated]
        return [Attention(name.rpartition(".")[2], name, module, "x", lambda tokens: tokens) for name, module in found]
    return [
        Attention(site.rule.kind, site.name, site.module, known.input_name, partial(architectures.pack, rule=site.rule))
        for site in architectures.attention_sites(network, known)
    ]


def macs_counter(nodes: Nodes) -> Any:
    """The core's counter, a context manager; its `macs` are those of networks run on shapes meanwhile."""
    return pack_core(nodes)("host.macs").MacsCounter()


def presets(nodes: Nodes) -> tuple[str, ...]:
    """Names of the presets, the default first."""
    return tuple(pack_core(nodes)("gate.presets").PRESETS)


def preset(model: Any, nodes: Nodes) -> Any:
    """The default preset for a model (the host's ModelPatcher)."""
    core = pack_core(nodes)
    return core("gate.presets").PresetConfig(core("host.networks").family_of(model))


def reused_kinds(run: Any) -> list[list[str]]:
    """Kinds of attention that a run (the state under RUN_KEY) reused in each step."""
    counts = [run.counts.by_step[step] for step in range(run.counts.steps)]
    return [sorted(kind for kind, share in step.reused_share.items() if share) for step in counts]
