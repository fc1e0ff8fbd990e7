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
    "shape": f"The shape will change. {COMPARE}",
}
USUAL = (
    "It does 62 % of the work: the network runs where it matters, and the steps in between are predicted from those "
    "before them."
)
# Samplers of these graphs with which presets predict no step.
HELD_SAMPLERS = frozenset({"dpmpp_3m_sde", "lcm", "uni_pc"})
HELD = (
    "It does 62 % of the work. With this sampler no step is predicted: all run, a few of them with both prompts, and "
    "the others reuse what those left: the guidance difference{attention}."
)
JOINT = "Text and picture share one attention in this model, and no attention is frozen."
ALONE = "Whole steps are saved, and no attention of this model is reused."
PRESETS = (
    "**balanced**: start here.",
    "**gentle**: 72 % of the work, closer to the plain picture.",
    "**fast**: 35 to 40 % of the work; more below 25 steps and with samplers that are harder to predict, at most 55 %.",
)
WRITE_YOURS = "**Prompt**: write yours."

Run = tuple[int, float, str, str]  # steps, cfg, sampler, scheduler
RUN: Run = (25, 7.0, "dpmpp_2m", "karras")


@dataclass(frozen=True, kw_only=True)
class Note:
    """What the note of a workflow says; loading files and "Run" are added to its steps."""

    name: str  # of the workflow's file
    heading: str
    run: Run = RUN
    has_presets: bool = False  # whether it is about what TGATE Apply's presets do in a run of many steps
    unpublished: str = ""  # what to call a model without published settings
    has_joint_attention: bool = False  # whether text and picture share one attention
    has_guidance_alone: bool = False  # whether T-GATE leaves all of its attentions alone
    effect: str = ""  # in place of, or after, what T-GATE usually does
    steps: Sequence[str] = (WRITE_YOURS,)
    settings: Sequence[str] = ()
    result: Literal["picture", "video", "sound", "shape"] = "picture"
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
            *([_listed(PRESETS)] if self.has_presets else []),
            *([self.place] if self.place else []),
            self.changes or CHANGES[self.result],
            *self.closing,
        ]
        return "\n\n".join(paragraphs) + "\n"

    def _usual_effect(self) -> Iterator[str]:
        is_held = self.run[2] in HELD_SAMPLERS
        if self.has_presets and is_held:
            yield HELD.format(attention="" if self.has_joint_attention else " and the cross-attention")
        elif self.has_presets:
            yield USUAL
        if self.has_joint_attention:
            yield JOINT
        if self.has_guidance_alone:
            yield ALONE
        if self.unpublished:
            yield f"Experimental: nobody has published settings for {self.unpublished}."


def note_height(markdown: str) -> int:
    """Pixels that a note needs, rounded up to tens."""
    shown = re.sub(r"[*`]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", markdown))  # neither marks nor URLs
    lines = sum(max(1, math.ceil(len(line) / LINE_CHARACTERS)) for line in shown.splitlines())
    return math.ceil((MARGINS + LINE * lines) / 10) * 10


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
