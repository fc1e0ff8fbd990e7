"""The note of a workflow."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

NOTE_WIDTH = 400
# What the editor shows at this width: characters in a line, and pixels with room for other fonts.
LINE_CHARACTERS, LINE, MARGINS = 68, 14, 60
COMPARE = "To compare, select the node, press **Ctrl+B** (bypass) and run again with the same seed."
CHANGES = {
    "picture": f"The picture will change. {COMPARE}",
    "video": f"The picture will change in every frame, and so can the motion. {COMPARE}",
    "sound": f"The sound will change. {COMPARE}",
}
WRITE_YOURS = "**Prompt**: write yours."


@dataclass(frozen=True)
class Note:
    """What a note says; loading files and "Run" are added to its steps."""

    heading: str
    effect: str  # what T-GATE does here
    steps: Sequence[str] = (WRITE_YOURS,)
    settings: Sequence[str] = ()
    presets: Sequence[str] = ()
    changes: str = CHANGES["picture"]
    closing: Sequence[str] = ()
    node: str = "TGATE Apply"  # which `effect` is about

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


def effect(gate_step: int, steps: int, unpublished: str = "") -> str:
    """What TGATE Apply does, for a model with published settings or for the `unpublished` one of this name."""
    begin = f"From step {gate_step} of {steps} on, cross-attention is reused and the second guidance pass is skipped"
    if not unpublished:
        return f"{begin}: each of these steps costs about half."
    rule = "these follow the paper's rule for other models."
    return f"Experimental. {begin}. Nobody has published settings for {unpublished}; {rule}"


def presets(fast: int, gentle: int = 0) -> list[str]:
    """The presets and their gate steps; 0 for `gentle` where it gates as `balanced` does."""
    gently = f"gates at step {gentle}, reuses no self-attention." if gentle else "reuses no self-attention."
    return ["**balanced**: start here.", f"**gentle**: {gently}", f"**fast**: gates at step {fast}."]


def note_height(markdown: str) -> int:
    """Pixels that a note needs, rounded up to tens."""
    shown = re.sub(r"[*`]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", markdown))  # neither marks nor URLs
    lines = sum(max(1, math.ceil(len(line) / LINE_CHARACTERS)) for line in shown.splitlines())
    return math.ceil((MARGINS + LINE * lines) / 10) * 10


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
