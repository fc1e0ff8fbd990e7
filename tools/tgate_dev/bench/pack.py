"""The pack's nodes as ComfyUI loads them, and its own modules as its nodes use them."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

PACK = Path(__file__).absolute().parents[3]


def load_pack_nodes() -> dict[str, Any]:
    """The pack's node classes by id, loaded as ComfyUI loads them; ComfyUI has to be on the path."""
    # First, as in ComfyUI's main.py: its nodes.py puts a folder on the path that holds another module of this name.
    importlib.import_module("utils.extra_config")
    import nodes

    before = set(nodes.NODE_CLASS_MAPPINGS)
    if not asyncio.run(nodes.load_custom_node(str(PACK))):
        raise RuntimeError("ComfyUI could not load the pack")
    return {name: node for name, node in nodes.NODE_CLASS_MAPPINGS.items() if name not in before}


def pack_core(nodes: Mapping[str, Any]) -> Callable[[str], ModuleType]:
    """Gets a module of the pack's core, as in `pack_core(nodes)("presets")`.

    Args:
        nodes: the pack's node classes by id.
    """
    package = nodes["TGATEApply"].__module__.rsplit(".nodes.", 1)[0]

    def module(name: str) -> ModuleType:
        return sys.modules[f"{package}.tgate_core.{name}"]

    return module
