"""A subgraph that the editor offers in its node library: a whole graph as one node, with the inputs that people set."""

from __future__ import annotations

import json
import uuid
from typing import Any

from ..prompts import ObjectInfo
from .recipes import SDXL
from .workflow import NAMESPACE, Workflow

NAME = "Text to image with TGATE"
DESCRIPTION = "A picture from a prompt with any SD or SDXL checkpoint, sampled with TGATE Apply."
CATEGORY = "TGATE"
# The nodes by which a subgraph meets the outside.
INPUT, OUTPUT = -10, -20
# What is set from outside: title or type of the node, and its widget.
EXPOSED = (
    ("Prompt", "text"),
    ("Negative prompt", "text"),
    ("Size", "width"),
    ("Size", "height"),
    ("TGATEApply", "preset"),
    ("KSampler", "seed"),
    ("KSampler", "steps"),
    ("KSampler", "cfg"),
    ("CheckpointLoaderSimple", "ckpt_name"),
)
WIDTH, HEIGHT, SLOT = 400, 560, 20


def made(object_info: ObjectInfo) -> str:
    """What its file holds; `object_info` is what a server says about its nodes."""
    w = Workflow(object_info)
    w.checkpoint(SDXL)
    w.prompts()
    w.gate()
    w.picture_size(1024, 1024)
    w.group("Sampling", 4).sampler()
    w.group("Picture", 5).node("VAEDecode")
    nodes, links, groups = w.laid_out()
    subgraph = _subgraph(nodes, [_link(*link) for link in links], groups)
    outer = {
        "id": 1,
        "type": subgraph["id"],
        "pos": [0, 0],
        "size": [WIDTH, HEIGHT],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [],
        "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": []}],
        "title": NAME,
        "properties": {"proxyWidgets": [[str(_node(nodes, title)["id"]), widget] for title, widget in EXPOSED]},
        "widgets_values": [],
    }
    graph = {"revision": 0, "last_node_id": 1, "last_link_id": 0, "nodes": [outer], "links": [], "version": 0.4}
    graph |= {"definitions": {"subgraphs": [subgraph]}, "extra": {"BlueprintDescription": DESCRIPTION}}
    return json.dumps(graph, indent=2, ensure_ascii=False) + "\n"


def _subgraph(nodes: list[dict[str, Any]], links: list[dict[str, Any]], groups: list[Any]) -> dict[str, Any]:
    decoder, number = _node(nodes, "VAEDecode"), len(links) + 1
    links.append(_link(number, decoder["id"], 0, OUTPUT, 0, "IMAGE"))
    decoder["outputs"][0]["links"].append(number)
    right = max(node["pos"][0] + node["size"][0] for node in nodes) + 80
    output = {"id": _id("IMAGE"), "name": "IMAGE", "type": "IMAGE", "linkIds": [number], "pos": [right + SLOT, SLOT]}
    return {
        "id": _id(NAME),
        "version": 1,
        "state": {"lastGroupId": len(groups), "lastNodeId": max(node["id"] for node in nodes), "lastLinkId": number}
        | {"lastRerouteId": 0},
        "revision": 0,
        "config": {},
        "name": NAME,
        "inputNode": {"id": INPUT, "bounding": [-200, 0, 120, 60]},
        "outputNode": {"id": OUTPUT, "bounding": [right, 0, 120, 60]},
        "inputs": [],
        "outputs": [output],
        "widgets": [],
        "nodes": nodes,
        "groups": groups,
        "links": links,
        "extra": {},
        "category": CATEGORY,
        "description": DESCRIPTION,
    }


def _link(number: int, origin: int, slot: int, target: int, target_slot: int, kind: str) -> dict[str, Any]:
    ends = {"origin_id": origin, "origin_slot": slot, "target_id": target, "target_slot": target_slot}
    return {"id": number, **ends, "type": kind}


def _node(nodes: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(node for node in nodes if name in (node.get("title"), node["type"]))


def _id(name: str) -> str:
    """Always the same, so that the file is."""
    return str(uuid.uuid5(NAMESPACE, f"blueprint {name}"))
