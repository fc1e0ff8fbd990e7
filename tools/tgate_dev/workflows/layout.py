"""Where everything stands: groups in columns from left to right, nothing over anything else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ..server_graph import ObjectInfo, inputs_of, is_widget, saved_widgets
from .description import Group, Node, Workflow

# Sizes as the editor computes them.
SLOT = 20
WIDGET = 24
UNDER_WIDGETS = 14
UNDER_SLOTS = 6
TITLE = 30
WIDTH = 330
# A widget's value, and what stands beside it.
CHARACTER = 7.2
BESIDE_VALUE = 80
WIDTHS = {"KSampler": 315, "CLIPTextEncode": 360, "SaveImage": 420, "SaveAnimatedWEBP": 420, "ImageCompare": 480}
# The strip in which these nodes draw what they are about to do.
STRIPS = {"TGATEApply": 146, "TGATEApplyAdvanced": 146}
SIDE = 25
ABOVE = 80
NODE_GAP = 20
GROUP_GAP = 20


@dataclass(frozen=True)
class Box:
    """Left, top, width and height in pixels; a node's title lies above its box."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Layout:
    """Boxes of nodes by name, and of groups in the order of the description."""

    nodes: Mapping[str, Box]
    groups: tuple[Box, ...]


def place(workflow: Workflow, object_info: ObjectInfo, left: int) -> Layout:
    """Boxes for everything but the note, beginning at x = `left` with the first column's nodes."""
    nodes: dict[str, Box] = {}
    frames: dict[int, Box] = {}
    for column in sorted({group.column for group in workflow.groups}):
        groups = [(index, group) for index, group in enumerate(workflow.groups) if group.column == column]
        width = max(node_width(node) for _, group in groups for node in group.nodes)
        top = 0
        for index, group in groups:
            bottom = _stack(group, object_info, left, top, width, nodes)
            frames[index] = Box(left - SIDE, top - ABOVE, width + 2 * SIDE, bottom + SIDE - (top - ABOVE))
            top = bottom + SIDE + GROUP_GAP + ABOVE
        left += width + 2 * SIDE + GROUP_GAP
    return Layout(nodes, tuple(frames[index] for index in range(len(workflow.groups))))


def _stack(group: Group, object_info: ObjectInfo, x: int, y: int, width: int, nodes: dict[str, Box]) -> int:
    """Put a group's nodes below each other; returns where the last one ends."""
    for node in group.nodes:
        nodes[node.name] = Box(x, y, width, node_height(node, object_info))
        y += nodes[node.name].height + TITLE + NODE_GAP
    return y - TITLE - NODE_GAP


def node_width(node: Node) -> int:
    """Enough for the longest name of a file that it shows."""
    longest = max((len(file.name) for file in node.files), default=0)
    return max(WIDTHS.get(node.kind, WIDTH), math.ceil((CHARACTER * longest + BESIDE_VALUE) / 10) * 10)


def node_height(node: Node, object_info: ObjectInfo) -> int:
    """What the editor gives a new node of the kind, its strip included, or the node's own height if that is more."""
    info = object_info[node.kind]
    sockets = sum(not is_widget(specification) for specification in inputs_of(info).values())
    widgets = len(list(saved_widgets(info)))
    slots = SLOT * max(sockets, len(info["output"]))
    own = slots + (WIDGET * widgets + UNDER_WIDGETS if widgets else UNDER_SLOTS)
    return max(node.height, own + STRIPS.get(node.kind, 0))
