"""Calling nodes of the host's old kind and its new one alike, and finding the host's own."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from comfy.model_patcher import ModelPatcher

# Module and class, by the id of the node.
_PLACES = {
    "CFGOverride": ("comfy_extras.nodes_custom_sampler", "CFGOverride"),
    "EasyCache": ("comfy_extras.nodes_easycache", "EasyCacheNode"),
}


def host_node(node_id: str) -> type[Any] | None:
    """One of the host's own nodes by its id; None where this host does not have it."""
    module, name = _PLACES[node_id]
    return getattr(importlib.import_module(module), name, None)


def node_patch(node: type[Any], **chosen: Any) -> Callable[[ModelPatcher], ModelPatcher]:
    """Puts a node on a model, see `call_node`."""
    return lambda model: call_node(node, model, **chosen)


def call_node(node: type[Any], model: ModelPatcher, **chosen: Any) -> ModelPatcher:
    """The model that a node returns.

    Args:
        node: the class of the node.
        model: what it is connected to.
        chosen: its inputs, by name; those that are left out are as the editor shows them first.
    """
    inputs = {**defaults(node.INPUT_TYPES()), **chosen, "model": model}
    if hasattr(node, "define_schema"):
        patched: ModelPatcher = node.execute(**inputs).args[0]
        return patched
    patched = getattr(node(), node.FUNCTION)(**inputs)[0]
    return patched


def defaults(inputs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What the editor shows first in each input that has such a value.

    Args:
        inputs: as a node's INPUT_TYPES gives them: by group and name, each a type or its choices, and its options.
    """
    described = {name: given for group in ("required", "optional") for name, given in inputs.get(group, {}).items()}
    return {name: _default(given) for name, given in described.items() if _has_default(given)}


def _has_default(described: tuple[Any, ...]) -> bool:
    return isinstance(described[0], list) or "default" in _options(described)


def _default(described: tuple[Any, ...]) -> Any:
    options = _options(described)
    return options["default"] if "default" in options else described[0][0]


def _options(described: tuple[Any, ...]) -> dict[str, Any]:
    return described[1] if len(described) > 1 else {}
