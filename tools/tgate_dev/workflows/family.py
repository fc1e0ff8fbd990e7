"""What a workflow's model is to our nodes, told in the graph: the strip is right before the model's file is there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .note import ALONE, JOINT

OURS = ("TGATEApply", "TGATEApplyAdvanced")
# Where the editor's part keeps it, and of which loader it is; see `web/schedule_query.js`.
FAMILY, LOADER = "tgate_family", "tgate_family_of"
# By what is in the names of their files; all others are models without published settings.
FAMILIES = {
    "v1-5": "sd15",
    "v2-1": "sd21",
    "sd_xl": "sdxl",
    "playground": "playground-2.5",
    "svd": "svd",
    "pixart": "pixart",
}


def tell_families(graph: Mapping[str, Any]) -> None:
    """Write the family of their model into our nodes of a saved workflow."""
    note = next(node for node in graph["nodes"] if node["type"] == "MarkdownNote")["widgets_values"][0]
    for node in graph["nodes"]:
        if node["type"] not in OURS:
            continue
        loaders = [[loader["type"], *loader["widgets_values"]] for loader in _loaders(graph, node)]
        told = {FAMILY: _family(loaders, note), LOADER: _as_in_javascript(loaders)}
        node["properties"] = {**node["properties"], **told}


def _family(loaders: Sequence[Sequence[Any]], note: str) -> str:
    for sentence, scope in ((JOINT, "joint attention"), (ALONE, "guidance alone")):
        if sentence in note:
            return scope
    files = " ".join(str(name).lower() for _, name, *_ in loaders)
    return next((family for part, family in FAMILIES.items() if part in files), "generic")


def _loaders(graph: Mapping[str, Any], node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The nodes that a node's model is loaded by, nearest first."""
    nodes = {one["id"]: one for one in graph["nodes"]}
    origins = {link[0]: nodes[link[1]] for link in graph["links"]}
    queue, loaders = [node], []
    for current in queue:
        models = [one["link"] for one in current["inputs"] if one["type"] == "MODEL" and one["link"] is not None]
        if not models:
            loaders.append(current)
        queue += [origins[link] for link in models if origins[link] not in queue]
    return loaders


def _as_in_javascript(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
