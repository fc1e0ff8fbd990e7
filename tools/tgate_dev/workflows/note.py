"""The note of a workflow."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

NOTE_WIDTH = 400
# At this width: characters in a line of a paragraph and of a list, and pixels.
LINE_CHARACTERS, ITEM_CHARACTERS = 70, 68
LINE, PARAGRAPH_GAP, LIST_GAP, MARGINS = 12, 10, 12, 50
HEADINGS = {"## ": 19, "### ": 26}
ROOM = 1.15  # fonts differ a little from one system to the next

COMPARE = "To compare, select the node, press **Ctrl+B** (bypass) and run again with the same seed."
CHANGES = {
    "picture": f"The picture will change. {COMPARE}",
    "video": f"The picture will change in every frame, and so can the motion. {COMPARE}",
    "sound": f"The sound will change. {COMPARE}",
}
WRITE_YOURS = "**Prompt**: write yours."


@dataclass(frozen=True)
class Note:
    """What a note says; loading files and "Run" are added to its steps.

    Attributes:
        heading: the title.
        effect: what T-GATE does here.
        steps: what to do.
        settings: what to set.
        presets: the presets worth trying.
        changes: what will be different.
        closing: what else to know.
        node: which node `effect` is about.
    """

    heading: str
    effect: str
    steps: Sequence[str] = (WRITE_YOURS,)
    settings: Sequence[str] = ()
    presets: Sequence[str] = ()
    changes: str = CHANGES["picture"]
    closing: Sequence[str] = ()
    node: str = "TGATE Apply"

    def markdown(self, loads: Sequence[str]) -> str:
        """The text; `loads` are the steps that load files."""
        steps = enumerate([*loads, *self.steps, "**Run**."], start=1)
        paragraphs = [
            f"## {self.heading}",
            "\n".join(f"{number}. {step}" for number, step in steps),
            *(["### What to set", _listed(self.settings)] if self.settings else []),
            f"### What {self.node} does here",
            self.effect,
            *([_listed(self.presets)] if self.presets else []),
            self.changes,
            *self.closing,
        ]
        return "\n\n".join(paragraphs) + "\n"


def effect(gate_step: int, steps: int) -> str:
    """What TGATE Apply does with the settings published for a model."""
    return (
        f"From step {gate_step} of {steps} on, cross-attention is reused and the second guidance pass is skipped: "
        "each of these steps costs about half."
    )


def experimental(gate_step: int, steps: int, model: str) -> str:
    """What it does for a model without published settings."""
    return (
        f"Experimental. From step {gate_step} of {steps} on, cross-attention is reused and the second guidance pass is "
        f"skipped. Nobody has published settings for {model}; these follow the paper's rule for other models."
    )


def presets(fast: int, gentle: int = 0) -> list[str]:
    """The presets and their gate steps; 0 for `gentle` where it gates as `balanced` does."""
    gently = f"gates at step {gentle}, reuses no self-attention." if gentle else "reuses no self-attention."
    return ["**balanced**: start here.", f"**gentle**: {gently}", f"**fast**: gates at step {fast}."]


def note_height(markdown: str) -> int:
    """Pixels that a note needs, rounded up to tens."""
    text_height = sum(_block_height(block) for block in markdown.strip().split("\n\n"))
    return math.ceil((MARGINS + ROOM * text_height) / 10) * 10


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _block_height(block: str) -> int:
    mark = re.match(r"(#+|\d+\.|-) ", block)
    if mark and mark[0] in HEADINGS:
        return HEADINGS[mark[0]]
    characters, gap = (ITEM_CHARACTERS, LIST_GAP) if mark else (LINE_CHARACTERS, PARAGRAPH_GAP)
    shown = re.sub(r"[*`]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", block))  # neither marks nor URLs
    return gap + LINE * sum(math.ceil(len(line) / characters) for line in shown.split("\n"))
