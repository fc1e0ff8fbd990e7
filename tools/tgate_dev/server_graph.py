"""From a graph as ComfyUI's editor saves it to the prompt that its server queues.

The editor does this in the browser. Here it is done for what the shipped workflows need: nodes, links, widgets, notes,
and nodes that are switched off or bypassed. No subgraphs, reroutes or primitive nodes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

Graph = Mapping[str, Any]
ObjectInfo = Mapping[str, Any]
Prompt = dict[str, dict[str, Any]]

NEVER = 2
BYPASS = 4
NOTES = ("Note", "MarkdownNote")
WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
# The editor saves a second widget behind some, which the server does not know: what becomes of a seed after a run, and
# the button that uploads a picture.
SEEDS = ("seed", "noise_seed")
SECOND_WIDGET_OPTIONS = ("control_after_generate", "image_upload")
# What it puts into a prompt for inputs that are nothing but a place to draw in: they can be neither set nor linked.
DRAWN = {"IMAGECOMPARE": {"__value__": ["", ""]}}


class GraphError(Exception):
    """The graph cannot be turned into a prompt; the text says which node is the reason."""


def to_prompt(graph: Graph, object_info: ObjectInfo, bypassed: Collection[str] = ()) -> Prompt:
    """The prompt of a graph.

    Args:
        graph: a workflow as saved by the editor.
        object_info: what the server says about its nodes.
        bypassed: types of nodes to bypass, as if the user had done so in the editor.

    Raises:
        GraphError: the graph has a node that the server does not, or one that this function does not know how to read.
    """
    nodes = {node["id"]: node for node in graph["nodes"]}
    sources = {link[0]: (link[1], link[2]) for link in graph["links"]}
    off = {node["id"] for node in graph["nodes"] if node.get("mode") == BYPASS or node["type"] in bypassed}
    prompt: Prompt = {}
    for node in _working_nodes(graph):
        if node["id"] in off:
            continue
        inputs = {**drawn_values(object_info.get(node["type"], {})), **widget_values(node, object_info)}
        for slot in node.get("inputs", ()):
            source = _source(slot.get("link"), nodes, sources, off)
            if source is not None:
                inputs[slot["name"]] = source
        title = node.get("title") or object_info[node["type"]].get("display_name") or node["type"]
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs, "_meta": {"title": title}}
    return prompt


def widget_values(node: Mapping[str, Any], object_info: ObjectInfo) -> dict[str, Any]:
    """A node's widget values by the name of their input.

    Raises:
        GraphError: the server does not have the node, or the node has another number of values than widgets.
    """
    if node["type"] not in object_info:
        raise GraphError(f"the server has no node of the type {node['type']} (node {node['id']})")
    names = [name for name, _ in saved_widgets(object_info[node["type"]])]
    values = node.get("widgets_values", [])
    if len(names) != len(values):
        raise GraphError(f"node {node['id']} ({node['type']}) has {len(values)} values for {len(names)} widgets")
    return {name: value for name, value in zip(names, values, strict=True) if name is not None}


def saved_widgets(info: Mapping[str, Any]) -> Iterator[tuple[str | None, list[Any]]]:
    """Name and specification of each widget of a node, in the order their values are saved; no name: editor's own."""
    for name, specification in inputs_of(info).items():
        if not is_widget(specification):
            continue
        yield name, specification
        options = options_of(specification)
        if name in SEEDS or any(options.get(option) for option in SECOND_WIDGET_OPTIONS):
            yield None, specification


def drawn_values(info: Mapping[str, Any]) -> dict[str, Any]:
    """What the editor sends by itself, by name of the input."""
    required = info.get("input", {}).get("required", {})
    return {name: DRAWN[input_type(entry)] for name, entry in required.items() if input_type(entry) in DRAWN}


def inputs_of(info: Mapping[str, Any]) -> dict[str, list[Any]]:
    """All inputs of a node that can be set or linked, required ones first, each in the server's form: a type, and
    mostly a dict of options.
    """
    kinds = (kind for kind in ("required", "optional") if kind in info["input"])
    inputs = {name: info["input"][kind][name] for kind in kinds for name in info["input_order"][kind]}
    return {name: entry for name, entry in inputs.items() if input_type(entry) not in DRAWN}


def options_of(specification: list[Any]) -> dict[str, Any]:
    """The options of an input: default, range, tooltip, …"""
    return specification[1] if len(specification) > 1 else {}


def input_type(specification: list[Any]) -> str:
    """The type of an input; older nodes give a list of choices in place of COMBO."""
    kind = specification[0]
    return "COMBO" if isinstance(kind, list) else str(kind)


def choices_of(specification: list[Any]) -> list[Any]:
    """The choices of a COMBO input."""
    kind = specification[0]
    return kind if isinstance(kind, list) else list(options_of(specification).get("options", ()))


def is_widget(specification: list[Any]) -> bool:
    """Whether an input is set in the node itself, not by a link."""
    return input_type(specification) in WIDGET_TYPES and not options_of(specification).get("forceInput", False)


def insert_after_source(prompt: Prompt, consumer_input: str, node_id: str, class_type: str, **inputs: Any) -> None:
    """Put a node of one input into every link that ends in a sampler's input of the name `consumer_input`.

    Args:
        prompt: changed in place.
        consumer_input: name of that input, and of the new node's own.
        node_id: id of the new node; it is given a number for each link.
        class_type: its type.
        inputs: its other inputs.
    """
    samplers = [node for node in prompt.values() if is_sampler(node)]
    for number, sampler in enumerate(samplers):
        new_id = f"{node_id}{number}"
        link = sampler["inputs"][consumer_input]
        prompt[new_id] = {"class_type": class_type, "inputs": {consumer_input: link, **inputs}}
        sampler["inputs"][consumer_input] = [new_id, 0]


def is_sampler(node: Mapping[str, Any]) -> bool:
    """Whether a node of a prompt samples, as the KSampler nodes do."""
    return bool({"model", "steps", "latent_image"} <= node["inputs"].keys())


def _working_nodes(graph: Graph) -> Iterator[Mapping[str, Any]]:
    return (node for node in graph["nodes"] if node["type"] not in NOTES and node.get("mode") != NEVER)


def _source(
    link: int | None,
    nodes: Mapping[int, Mapping[str, Any]],
    sources: Mapping[int, tuple[int, int]],
    off: Collection[int],
) -> list[Any] | None:
    """Node id and output slot that a link comes from, through bypassed nodes; None when nothing is connected."""
    while link is not None:
        origin, slot = sources[link]
        if origin not in off:
            return None if nodes[origin].get("mode") == NEVER else [str(origin), slot]
        link = _passed_through(nodes[origin], slot)
    return None


def _passed_through(node: Mapping[str, Any], slot: int) -> int | None:
    """The input link that a bypassed node hands on: of the output's type, at the output's own place if it can be."""
    kind = node["outputs"][slot]["type"]
    inputs = node.get("inputs", [])
    same_place = inputs[slot : slot + 1]
    candidates = [entry for entry in [*same_place, *inputs] if entry["type"] == kind]
    return next((entry["link"] for entry in candidates if entry.get("link") is not None), None)
