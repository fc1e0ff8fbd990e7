"""The pack's own modules, as its nodes use them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any


def pack_core(nodes: Mapping[str, Any]) -> Callable[[str], ModuleType]:
    """Gets a module of the pack's core, as in `pack_core(nodes)("presets")`.

    Args:
        nodes: the pack's node classes by id.
    """
    package = nodes["TGATEApply"].__module__.rsplit(".nodes.", 1)[0]

    def module(name: str) -> ModuleType:
        return sys.modules[f"{package}.tgate_core.{name}"]

    return module
