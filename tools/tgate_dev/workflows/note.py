"""The note of a workflow, in Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

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

Run = tuple[int, float, str, str]  # steps, cfg, sampler, scheduler
RUN: Run = (25, 7.0, "dpmpp_2m", "karras")


@dataclass(frozen=True, kw_only=True)
class Note:
    """What the note of a workflow says; loading files and "Run" are added to its steps."""

    name: str  # of the workflow's file
    heading: str
    run: Run = RUN
    gates: tuple[int, ...] = ()  # gate steps of balanced and fast, and of gentle where it has its own
    unpublished: str = ""  # what to call a model without published settings
    effect: str = ""  # in place of, or after, what T-GATE usually does
    steps: Sequence[str] = (WRITE_YOURS,)
    settings: Sequence[str] = ()
    result: Literal["picture", "video", "sound"] = "picture"
    place: str = ""  # where its node belongs
    changes: str = ""  # in place of what usually changes in such a result
    closing: Sequence[str] = ()
    node: str = "TGATE Apply"  # which `effect` is about

    def markdown(self, loads: Sequence[str]) -> str:
        """The text; `loads` are the steps that load files."""
        steps = enumerate([*loads, *self.steps, "**Run**."], start=1)
        effect = [*self._usual_effect(), *([self.effect] if self.effect else [])]
        paragraphs = [
            f"## {self.heading}",
            "\n".join(f"{number}. {step}" for number, step in steps),
            *(["### What to set", _listed(self.settings)] if self.settings else []),
            f"### What {self.node} does here",
            " ".join(effect),
            *([_listed(_presets(*self.gates[1:]))] if self.gates else []),
            *([self.place] if self.place else []),
            self.changes or CHANGES[self.result],
            *self.closing,
        ]
        return "\n\n".join(paragraphs) + "\n"

    def _usual_effect(self) -> Iterator[str]:
        if self.gates:
            skipped = "cross-attention is reused and the second guidance pass is skipped"
            begin = f"From step {self.gates[0]} of {self.run[0]} on, {skipped}"
            if self.unpublished:
                rule = "these follow the paper's rule for other models."
                yield f"Experimental. {begin}. Nobody has published settings for {self.unpublished}; {rule}"
            else:
                yield f"{begin}: each of these steps costs about half."


def note_height(markdown: str) -> int:
    """Pixels that a note needs, rounded up to tens."""
    shown = re.sub(r"[*`]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", markdown))  # neither marks nor URLs
    lines = sum(max(1, math.ceil(len(line) / LINE_CHARACTERS)) for line in shown.splitlines())
    return math.ceil((MARGINS + LINE * lines) / 10) * 10


def _presets(fast: int, gentle: int = 0) -> list[str]:
    """The presets and their gate steps; 0 for `gentle` where it gates as `balanced` does."""
    gently = f"gates at step {gentle}, reuses no self-attention." if gentle else "reuses no self-attention."
    return ["**balanced**: start here.", f"**gentle**: {gently}", f"**fast**: gates at step {fast}."]


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
