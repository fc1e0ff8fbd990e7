"""What docs/models.md says of how far keys and values of text change in joint attention is what is measured."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tgate_dev.scenes import painting, world

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "models.md"
PROMPTS, TEXT_TOKENS, HELD = 16, 8, 4
# Percent; more than machines differ by.
TOLERANCE = 0.6

pytestmark = pytest.mark.slow
Seen = list[list[dict[str, Tensor]]]


@pytest.fixture(scope="module")
def seen() -> Seen:
    """By block and step: keys and values of text and picture, (cond and uncond of all prompts, tokens, channels)."""
    model = painting.load_model("joint")
    blocks = model.model.diffusion_model.layers
    found: Seen = [[] for _ in blocks]

    def look(number: int) -> Any:
        def hook(_module: Any, _inputs: Any, output: Tensor) -> None:
            _, keys, values = output.chunk(3, dim=-1)
            parts = {"keys": keys, "values": values}
            text = {f"text's {name}": part[:, :TEXT_TOKENS].clone() for name, part in parts.items()}
            picture = {f"picture's {name}": part[:, TEXT_TOKENS:].clone() for name, part in parts.items()}
            found[number].append({**text, **picture})

        return hook

    hooks = [block.attention.qkv.register_forward_hook(look(number)) for number, block in enumerate(blocks)]
    try:
        painting.paint(model, *world.measuring_set(PROMPTS))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def change(before: Tensor, after: Tensor) -> float:
    """Percent by which both branches differ, on average: norm of the difference over the norm."""
    branches = zip(before.chunk(2), after.chunk(2), strict=True)
    return 100 * sum(float(torch.dist(old, new) / old.norm()) for old, new in branches) / 2


def test_documented_changes_are_those_that_are_measured(seen: Seen) -> None:
    text = " ".join(DOCUMENT.read_text(encoding="utf-8").split())
    figures = re.search(
        r"the text's keys change by (\d+) to (\d+) % a step and by (\d+) % in the last, its values by (\d+) to (\d+) % "
        r"and (\d+) %; those of the picture by (\d+) to (\d+) % and (\d+) %, and (\d+) to (\d+) % and (\d+) %\. Held "
        r"from step 4, the text's keys are off by (\d+) % at step 18, and by (\d+) % at the end",
        text,
    )
    assert figures is not None
    measured = []
    for part in ("text's keys", "text's values", "picture's keys", "picture's values"):
        by_block = [[change(old[part], new[part]) for old, new in itertools.pairwise(steps)] for steps in seen]
        by_step = [sum(changes) / len(changes) for changes in zip(*by_block, strict=True)]
        measured += [min(by_step[:-1]), max(by_step[:-1]), by_step[-1]]
    for step in (18, -1):
        off = [change(steps[step]["text's keys"], steps[HELD]["text's keys"]) for steps in seen]
        measured.append(sum(off) / len(off))
    assert measured == pytest.approx([float(figure) for figure in figures.groups()], abs=TOLERANCE)
