"""A described workflow in the form in which the editor saves one."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..server_graph import ObjectInfo, choices_of, input_type, inputs_of, is_widget, options_of, saved_widgets
from . import note
from .description import Group, Node, Workflow
from .layout import Box, Layout, place

VERSION = 0.4
# One that never changes, so that the ids made from it do not either.
NAMESPACE = uuid.UUID("6f0f0b5e-3c0c-5d7e-9a68-1f8a6f3f6f1e")
NOTE_ID = 1
NOTE_GAP = 60
VIEW = {"scale": 1, "offset": [100, 180]}
COLORS = {"note": ("#432", "#653"), "gate": ("#232", "#353")}
OPTIONAL_SHAPE = 7
# What the editor's own second widgets hold: of a seed, and of a picture to upload.
SECOND_VALUES = {"seed": "fixed", "noise_seed": "fixed", "value": "fixed", "image": "image"}


class DescriptionError(Exception):
    """A description does not fit the server's nodes; the text says where."""


@dataclass(frozen=True)
class Link:
    """One link, in the editor's terms."""

    number: int
    origin: int
    slot: int
    target: int
    input: str
    kind: str


def saved(workflow: Workflow, object_info: ObjectInfo) -> dict[str, Any]:
    """The workflow as a saved graph.

    Args:
        workflow: its description.
        object_info: what the server says about its nodes.

    Raises:
        DescriptionError: it names a node, an input, an output or a value that the server does not have.
    """
    numbers = {node.name: number for number, node in enumerate(workflow.nodes(), start=NOTE_ID + 1)}
    links = list(_links(workflow, numbers, object_info))
    text = note.text(workflow, object_info)
    layout = place(workflow, object_info, left=note.WIDTH + NOTE_GAP)
    orders = _orders(workflow, links, numbers)
    nodes = [_node(node, numbers[node.name], links, layout.nodes[node.name], object_info) for node in workflow.nodes()]
    for node in nodes:
        node["order"] = orders[node["id"]]
    return {
        "id": str(uuid.uuid5(NAMESPACE, workflow.name)),
        "revision": 0,
        "last_node_id": max(numbers.values()),
        "last_link_id": len(links),
        "nodes": [_note(text), *nodes],
        "links": [_link_row(link, nodes) for link in links],
        "groups": list(_groups(workflow.groups, layout)),
        "config": {},
        "extra": {"ds": VIEW},
        "version": VERSION,
    }


def _links(workflow: Workflow, numbers: Mapping[str, int], object_info: ObjectInfo) -> Iterator[Link]:
    kinds = {node.name: node.kind for node in workflow.nodes()}
    count = 0
    for node in workflow.nodes():
        for name in _slot_names(node, object_info):
            if name not in node.links:
                continue
            origin, _, output = node.links[name].partition(".")
            if origin not in kinds:
                raise DescriptionError(f"{node.name}.{name}: there is no node {origin}")
            slot = _output_slot(object_info[kinds[origin]], output, f"{node.name}.{name}")
            count += 1
            kind = object_info[kinds[origin]]["output"][slot]
            yield Link(count, numbers[origin], slot, numbers[node.name], name, kind)


def _slot_names(node: Node, object_info: ObjectInfo) -> list[str]:
    """All inputs as the editor lists them: those that only take links first."""
    if node.kind not in object_info:
        raise DescriptionError(f"{node.name}: the server has no node of the type {node.kind}")
    inputs = inputs_of(object_info[node.kind])
    unknown = {*node.links, *node.values} - inputs.keys()
    if unknown:
        raise DescriptionError(f"{node.name}: {node.kind} has no input {', '.join(sorted(unknown))}")
    return sorted(inputs, key=lambda name: is_widget(inputs[name]))


def _output_slot(info: Mapping[str, Any], output: str, place_of_use: str) -> int:
    names = list(info["output_name"])
    if not output and len(names) == 1:
        return 0
    if output not in names:
        raise DescriptionError(f"{place_of_use}: there is no output {output or '(which one?)'} among {names}")
    return names.index(output)


def _node(node: Node, number: int, links: list[Link], box: Box, object_info: ObjectInfo) -> dict[str, Any]:
    info = object_info[node.kind]
    properties: dict[str, Any] = {"Node name for S&R": node.kind}
    models = [{"name": f.name, "url": f.url, "directory": f.folder} for f in node.files if f.is_direct]
    if models:
        properties["models"] = models
    entry = {
        "id": number,
        "type": node.kind,
        "pos": [box.x, box.y],
        "size": [box.width, box.height],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [_input(name, number, links, info) for name in _slot_names(node, object_info)],
        "outputs": list(_outputs(number, links, info)),
        **({"title": node.title} if node.title else {}),
        "properties": properties,
        "widgets_values": list(_values(node, info)),
    }
    if node.kind.startswith("TGATE"):
        entry["color"], entry["bgcolor"] = COLORS["gate"]
    return entry


def _input(name: str, number: int, links: list[Link], info: Mapping[str, Any]) -> dict[str, Any]:
    specification = inputs_of(info)[name]
    link = next((link.number for link in links if link.target == number and link.input == name), None)
    entry: dict[str, Any] = {"name": name, "type": input_type(specification)}
    if is_widget(specification):
        entry["widget"] = {"name": name}
    elif name in info["input"].get("optional", {}):
        entry["shape"] = OPTIONAL_SHAPE
    return {**entry, "link": link}


def _outputs(number: int, links: list[Link], info: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for slot, (kind, name) in enumerate(zip(info["output"], info["output_name"], strict=True)):
        own = [link.number for link in links if (link.origin, link.slot) == (number, slot)]
        yield {"name": name, "type": kind, "links": own}


def _values(node: Node, info: Mapping[str, Any]) -> Iterator[Any]:
    files = iter(node.files)
    last = ""
    for name, specification in saved_widgets(info):
        if name is None:
            yield SECOND_VALUES[last]
            continue
        last = name
        if name in node.values:
            yield node.values[name]
        elif name.endswith(("_name", "_name1", "_name2")) and node.files:
            yield next(files).name
        else:
            yield _default(node, name, specification)


def _default(node: Node, name: str, specification: list[Any]) -> Any:
    options = options_of(specification)
    if "default" in options:
        return options["default"]
    choices = choices_of(specification) if input_type(specification) == "COMBO" else []
    if choices:
        return choices[0]
    raise DescriptionError(f"{node.name}: {name} has no default, so the description has to say what it is")


def _orders(workflow: Workflow, links: list[Link], numbers: Mapping[str, int]) -> dict[int, int]:
    """In which order nodes run: each after those that it has links from."""
    waiting = [numbers[node.name] for node in workflow.nodes()]
    orders: dict[int, int] = {}
    while waiting:
        needs = {number: {link.origin for link in links if link.target == number} for number in waiting}
        ready = next((number for number in waiting if needs[number] <= orders.keys()), None)
        if ready is None:
            raise DescriptionError(f"{workflow.name}: its links lead in a circle")
        # The note comes first.
        orders[ready] = len(orders) + 1
        waiting.remove(ready)
    return orders


def _link_row(link: Link, nodes: list[dict[str, Any]]) -> list[Any]:
    target = next(node for node in nodes if node["id"] == link.target)
    slot = [entry["name"] for entry in target["inputs"]].index(link.input)
    return [link.number, link.origin, link.slot, link.target, slot, link.kind]


def _groups(groups: tuple[Group, ...], layout: Layout) -> Iterator[dict[str, Any]]:
    for number, (group, box) in enumerate(zip(groups, layout.groups, strict=True), start=1):
        bounding = [box.x, box.y, box.width, box.height]
        yield {"id": number, "title": group.title, "bounding": bounding, "color": group.color, "flags": {}}


def _note(text: str) -> dict[str, Any]:
    color, background = COLORS["note"]
    return {
        "id": NOTE_ID,
        "type": "MarkdownNote",
        "pos": [0, 0],
        "size": [note.WIDTH, note.height(text)],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "title": "Read me",
        "properties": {},
        "widgets_values": [text],
        "color": color,
        "bgcolor": background,
    }
