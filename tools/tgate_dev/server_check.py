"""Does a saved graph fit the nodes of a running server?"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from .server_graph import (
    NOTES,
    Graph,
    ObjectInfo,
    choices_of,
    input_type,
    inputs_of,
    is_widget,
    options_of,
    saved_widgets,
)

# Of an input that takes whatever there is.
ANY_TYPE = "*"
WIDGET_PYTHON_TYPES: dict[str, set[type]] = {"INT": {int}, "FLOAT": {int, float}, "STRING": {str}, "BOOLEAN": {bool}}


def problems(graph: Graph, object_info: ObjectInfo, files: Collection[str] = ()) -> list[str]:
    """Everything that does not fit, one sentence each; empty if the server can run the graph.

    Args:
        graph: a workflow as saved by the editor.
        object_info: what the server says about its nodes.
        files: inputs that name a file of the user's, which need not be among the server's choices.
    """
    nodes = {node["id"]: node for node in graph["nodes"] if node["type"] not in NOTES}
    unknown = [node for node in nodes.values() if node["type"] not in object_info]
    if unknown:
        return [f"no node type {node['type']} (node {node['id']})" for node in unknown]
    found = list(_duplicates(graph))
    for link in graph["links"]:
        found += [f"link {link[0]}: {problem}" for problem in _link_problems(link, nodes, object_info)]
    for node in nodes.values():
        found += [f"node {node['id']} ({node['type']}): {p}" for p in _node_problems(node, graph, object_info, files)]
    return found


def _duplicates(graph: Graph) -> Iterator[str]:
    for what, ids in (
        ("node", [node["id"] for node in graph["nodes"]]),
        ("link", [link[0] for link in graph["links"]]),
    ):
        if len(ids) != len(set(ids)):
            yield f"two {what}s have the same id"
        if ids and max(ids) > graph[f"last_{what}_id"]:
            yield f"last_{what}_id is smaller than a {what}'s id"


def _link_problems(link: list[Any], nodes: Mapping[int, Any], object_info: ObjectInfo) -> Iterator[str]:
    number, origin_id, origin_slot, target_id, target_slot, kind = link
    origin, target = nodes.get(origin_id), nodes.get(target_id)
    if origin is None or target is None:
        yield "it leads from or to a node that is not there"
        return
    outputs = object_info[origin["type"]]["output"]
    if origin_slot >= len(outputs) or outputs[origin_slot] != kind:
        yield f"{origin['type']} has no output {origin_slot} of type {kind}"
    elif number not in (origin["outputs"][origin_slot].get("links") or ()):
        yield f"it is missing from the outputs of node {origin_id}"
    slots = target.get("inputs", [])
    if target_slot >= len(slots) or slots[target_slot].get("link") != number:
        yield f"it is not the link of input {target_slot} of node {target_id}"
        return
    name = slots[target_slot]["name"]
    specification = inputs_of(object_info[target["type"]]).get(name)
    if specification is None or input_type(specification) not in (kind, ANY_TYPE):
        yield f"{target['type']} has no input {name} of type {kind}"


def _node_problems(
    node: Mapping[str, Any], graph: Graph, object_info: ObjectInfo, files: Collection[str]
) -> Iterator[str]:
    info = object_info[node["type"]]
    links = {link[0] for link in graph["links"]}
    linked = {slot["name"] for slot in node.get("inputs", ()) if slot.get("link") is not None}
    for slot in [*node.get("inputs", ()), *node.get("outputs", ())]:
        ends = slot.get("links") or [slot.get("link")]
        if not links.issuperset(end for end in ends if end is not None):
            yield f"{slot['name']} names a link that is not there"
    for needed, specification in inputs_of(info).items():
        is_required = needed in info["input"].get("required", {})
        if is_required and not is_widget(specification) and needed not in linked:
            yield f"{needed} is not connected"
    widgets, values = list(saved_widgets(info)), node.get("widgets_values", [])
    if len(widgets) != len(values):
        yield f"{len(values)} values for {len(widgets)} widgets"
        return
    for (name, specification), value in zip(widgets, values, strict=True):
        if name is not None and name not in files:
            yield from (f"{name} {problem}" for problem in value_problems(specification, value))


def value_problems(specification: list[Any], value: Any) -> Iterator[str]:
    """What is wrong with a widget's value, if anything."""
    kind = input_type(specification)
    if type(value) not in _python_types(kind, specification):
        yield f"is {value!r}, which is no {kind}"
        return
    if kind == "COMBO" and value not in choices_of(specification):
        yield f"is {value!r}, which is not one of its choices"
    if kind in ("INT", "FLOAT"):
        yield from _range_problems(options_of(specification), value)


def _range_problems(options: Mapping[str, Any], value: float) -> Iterator[str]:
    if "min" in options and value < options["min"]:
        yield f"is {value}, below {options['min']}"
    if "max" in options and value > options["max"]:
        yield f"is {value}, above {options['max']}"


def _python_types(kind: str, specification: list[Any]) -> Collection[type]:
    if kind == "COMBO":
        return {type(choice) for choice in choices_of(specification)} or {str}
    return WIDGET_PYTHON_TYPES[kind]
