"""How a workflow is described: nodes in groups, groups in columns, and what its note says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

MODEL_COLOR = "#3f789e"
INPUT_COLOR = "#88A"
GATE_COLOR = "#8A8"


@dataclass(frozen=True)
class File:
    """A file of the user's that a node names.

    Attributes:
        name: as it is to be called.
        folder: where it belongs, under ComfyUI's `models`.
        url: where to get it: the file itself, or the page that has it.
        remark: what else to know, a sentence that begins with a space.
    """

    name: str
    folder: str
    url: str
    remark: str = ""

    @property
    def is_direct(self) -> bool:
        """Whether the address is that of the file itself, under the same name."""
        return self.url.rpartition("/")[2] == self.name


@dataclass(frozen=True)
class Node:
    """One node.

    Attributes:
        name: how the description refers to it.
        kind: its type.
        values: its settings where they differ from the node's defaults.
        links: where its other inputs come from: "node", or "node.OUTPUT" where that has several outputs.
        files: what its loader loads, in the order of its inputs.
        title: what it is called, empty for the type's own name.
        height: of the whole node in pixels, for texts and pictures; 0 for what its inputs need.
    """

    name: str
    kind: str
    values: Mapping[str, Any] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    files: tuple[File, ...] = ()
    title: str = ""
    height: int = 0


@dataclass(frozen=True)
class Group:
    """A frame around nodes that stand below each other.

    Attributes:
        title: of the frame.
        column: number of its column, from 1; groups of one column stand below each other in the order given.
        nodes: from top to bottom.
        color: of the frame.
    """

    title: str
    column: int
    nodes: tuple[Node, ...]
    color: str = MODEL_COLOR


@dataclass(frozen=True)
class Note:
    """What the note says; the files to load and the last step ("Run") are put in by themselves.

    Attributes:
        heading: the first line.
        steps: what to do after the files are there.
        settings: what to set, one sentence or two each.
        effect: what T-GATE does in this workflow.
        presets: one line each about the choices there are.
        closing: what changes, how to compare, what else to know; one paragraph each.
        node: which node `effect` is about.
    """

    heading: str
    steps: tuple[str, ...]
    settings: tuple[str, ...]
    effect: str
    presets: tuple[str, ...]
    closing: tuple[str, ...]
    node: str = "TGATE Apply"


@dataclass(frozen=True)
class Workflow:
    """A whole workflow; `name` is that of its file, without the ending."""

    name: str
    note: Note
    groups: tuple[Group, ...]

    def nodes(self) -> Iterator[Node]:
        """All nodes but the note, in the order of the description."""
        for group in self.groups:
            yield from group.nodes
