"""Node definitions as a server tells them, and prompts for it from graphs as ComfyUI's editor saves them.

In ComfyUI the editor makes prompts, in the browser. This does it for what the shipped workflows have: nodes, links,
widgets, notes, and nodes that are muted or bypassed; no subgraphs and no reroutes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

Graph = Mapping[str, Any]
ObjectInfo = Mapping[str, Any]
Prompt = dict[str, dict[str, Any]]

MUTED, BYPASSED = 2, 4
NOTES = ("Note", "MarkdownNote")
WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
# Behind these the editor saves a widget of its own: what a seed does after a run, and a picture's upload button.
SEEDS = ("seed", "noise_seed")
SECOND_WIDGET_OPTIONS = ("control_after_generate", "image_upload")
# Inputs that are only a place to draw in, and what the editor sends for them.
DRAWN = {"IMAGECOMPARE": {"__value__": ["", ""]}}


class GraphError(Exception):
    """The graph cannot be turned into a prompt; the text says which node is the reason."""


def inputs_of(info: Mapping[str, Any]) -> dict[str, list[Any]]:
    """All inputs of a node that can be set or linked, required ones first: a type, and mostly a dict of options."""
    kinds = (kind for kind in ("required", "optional") if kind in info["input"])
    inputs = {name: info["input"][kind][name] for kind in kinds for name in info["input_order"][kind]}
    return {name: specification for name, specification in inputs.items() if input_type(specification) not in DRAWN}


def input_type(specification: list[Any]) -> str:
    """The type of an input; older nodes have a list of choices in place of COMBO."""
    return "COMBO" if isinstance(specification[0], list) else str(specification[0])


def options_of(specification: list[Any]) -> dict[str, Any]:
    """Default, range, tooltip, … of an input."""
    return specification[1] if len(specification) > 1 else {}


def choices_of(specification: list[Any]) -> list[Any]:
    """The choices of a COMBO input."""
    kind = specification[0]
    return kind if isinstance(kind, list) else list(options_of(specification).get("options", ()))


def is_widget(specification: list[Any]) -> bool:
    """Whether an input is set in the node itself."""
    kinds = input_type(specification).split(",")  # some take one of several
    return set(kinds) <= set(WIDGET_TYPES) and not options_of(specification).get("forceInput", False)


def saved_widgets(info: Mapping[str, Any]) -> Iterator[tuple[str | None, list[Any]]]:
    """Name and specification of each widget whose value is saved, in order; no name for the editor's own."""
    for name, specification in inputs_of(info).items():
        if is_widget(specification):
            yield name, specification
            if name in SEEDS or any(options_of(specification).get(option) for option in SECOND_WIDGET_OPTIONS):
                yield None, specification


def to_prompt(graph: Graph, object_info: ObjectInfo, bypassed: Collection[str] = ()) -> Prompt:
    """The prompt of a saved graph.

    Args:
        graph: as saved by the editor.
        object_info: what the server says about its nodes.
        bypassed: types of nodes to bypass, as if by Ctrl+B.

    Raises:
        GraphError: the server does not have a node, or not with as many widgets.
    """
    nodes = {node["id"]: node for node in graph["nodes"]}
    origins = {link[0]: (nodes[link[1]], link[2]) for link in graph["links"]}

    def is_bypassed(node: Mapping[str, Any]) -> bool:
        return node.get("mode") == BYPASSED or node["type"] in bypassed

    def source(link: int | None) -> list[Any] | None:
        """Node id and output slot that a link comes from, through bypassed nodes; None without any."""
        while link is not None:
            node, slot = origins[link]
            if not is_bypassed(node):
                return None if node.get("mode") == MUTED else [str(node["id"]), slot]
            link = _passed_on(node, slot)
        return None

    prompt: Prompt = {}
    for node in graph["nodes"]:
        if node["type"] in NOTES or node.get("mode") == MUTED or is_bypassed(node):
            continue
        sources = {slot["name"]: source(slot.get("link")) for slot in node.get("inputs", ())}
        linked = {name: origin for name, origin in sources.items() if origin is not None}
        inputs = {**_widget_values(node, object_info), **linked}
        title = node.get("title") or object_info[node["type"]].get("display_name") or node["type"]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs, "_meta": {"title": title}}
    return prompt


def is_sampler(node: Mapping[str, Any]) -> bool:
    """Whether a node of a prompt samples, as the KSampler nodes do."""
    return set(node["inputs"]) >= {"model", "steps", "latent_image"}


def _widget_values(node: Mapping[str, Any], object_info: ObjectInfo) -> dict[str, Any]:
    """A node's values by the name of their input."""
    if node["type"] not in object_info:
        raise GraphError(f"the server has no node of the type {node['type']} (node {node['id']})")
    info = object_info[node["type"]]
    names, values = [name for name, _ in saved_widgets(info)], node.get("widgets_values", [])
    if len(names) != len(values):
        raise GraphError(f"node {node['id']} ({node['type']}) has {len(values)} values for {len(names)} widgets")
    required = info["input"].get("required", {}).items()
    drawn = {name: DRAWN[input_type(entry)] for name, entry in required if input_type(entry) in DRAWN}
    return {**drawn, **{name: value for name, value in zip(names, values, strict=True) if name is not None}}


def _passed_on(node: Mapping[str, Any], slot: int) -> int | None:
    """The input link that a bypassed node passes on: of the output's type, at the output's own place if it can be."""
    kind, inputs = node["outputs"][slot]["type"], node.get("inputs", [])
    candidates = [entry for entry in [*inputs[slot : slot + 1], *inputs] if entry["type"] == kind]
    return next((entry["link"] for entry in candidates if entry.get("link") is not None), None)
