"""The text of a workflow's note, and how high it gets."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from ..server_graph import ObjectInfo
from .description import File, Node, Workflow

# As the editor shows a note of this width.
WIDTH = 400
CHARACTERS_IN_A_LINE = 70
CHARACTERS_IN_AN_ITEM = 68
LINE = 12
PARAGRAPH_GAP = 10
LIST_GAP = 12
HEADINGS = {"## ": 19, "### ": 26}
MARGINS = 50
# Fonts differ a little from one system to the next.
ROOM = 1.15
LINK = re.compile(r"\[([^]]*)\]\([^)]*\)")


def text(workflow: Workflow, object_info: ObjectInfo) -> str:
    """The note in Markdown."""
    note = workflow.note
    parts = [f"## {note.heading}", "\n".join(_steps(workflow, object_info))]
    if note.settings:
        parts += ["### What to set", "\n".join(f"- {line}" for line in note.settings)]
    parts += [f"### What {note.node} does here", note.effect]
    if note.presets:
        parts.append("\n".join(f"- {line}" for line in note.presets))
    return "\n\n".join([*parts, *note.closing]) + "\n"


def height(markdown: str) -> int:
    """Pixels that a note of width `WIDTH` needs, in tens."""
    text_height = sum(_block_height(block) for block in markdown.strip().split("\n\n"))
    return math.ceil((MARGINS + ROOM * text_height) / 10) * 10


def _block_height(block: str) -> int:
    for mark, pixels in HEADINGS.items():
        if block.startswith(mark):
            return pixels
    lines = block.split("\n")
    is_list = re.match(r"(\d+\.|-) ", block) is not None
    characters = CHARACTERS_IN_AN_ITEM if is_list else CHARACTERS_IN_A_LINE
    shown = (re.sub(r"[*`]", "", LINK.sub(r"\1", line)) for line in lines)
    gap = LIST_GAP if is_list else PARAGRAPH_GAP
    return gap + LINE * sum(math.ceil(len(line) / characters) for line in shown)


def _steps(workflow: Workflow, object_info: ObjectInfo) -> Iterator[str]:
    sentences = [_load(node, object_info) for node in workflow.nodes() if node.files]
    for number, sentence in enumerate([*sentences, *workflow.note.steps, "**Run**."], start=1):
        yield f"{number}. {sentence}"


def _load(node: Node, object_info: ObjectInfo) -> str:
    title = node.title or object_info[node.kind]["display_name"]
    return f"**{title}**: " + " ".join(_place(file) for file in node.files)


def _place(file: File) -> str:
    if file.is_direct:
        return f"[{file.name}]({file.url}), in `models/{file.folder}`.{file.remark}"
    page = file.url.rpartition("/")[2]
    return f"`{file.name}` of [{page}]({file.url}), in `models/{file.folder}`.{file.remark}"
