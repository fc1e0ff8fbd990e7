"""The nodes' own texts, in the layout of the editor's translations (`locales/<language>/nodeDefs.json`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

FILE = "nodeDefs.json"
# Input groups of a node that the editor shows.
_SHOWN = ("required", "optional")


def texts_of(nodes: Mapping[str, Any]) -> dict[str, Any]:
    """Names and tooltips of all nodes, their inputs and their outputs.

    Args:
        nodes: node classes by id.
    """
    return {name: _texts_of_node(node.GET_NODE_INFO_V1()) for name, node in nodes.items()}


def write_texts(texts: Mapping[str, Any], file: Path) -> None:
    """Write texts as a file of the editor's layout."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(texts, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def inputs_of(info: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """Names and specifications of those inputs of a node that the editor shows."""
    for group in _SHOWN:
        yield from info["input"].get(group, {}).items()


def _texts_of_node(info: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": {name: _input_text(name, specification) for name, specification in inputs_of(info)},
        "outputs": {
            str(index): {"name": name, "tooltip": tooltip}
            for index, (name, tooltip) in enumerate(
                zip(info["output_name"], info["output_tooltips"] or (), strict=True)
            )
        },
    }


def _input_text(name: str, specification: Any) -> dict[str, str]:
    options = specification[1]
    return {"name": options.get("display_name") or name, "tooltip": options["tooltip"]}
