"""What docs/models.md says of the work that text makes in joint attention is what is counted at full size."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tgate_dev.bench.counting import build_on_meta, count_macs
from tgate_dev.bench.models import FullSizeModel
from tgate_dev.bench.support import USUAL_RUNS

REPO = Path(__file__).resolve().parents[2]
DOCUMENT = " ".join((REPO / "docs" / "models.md").read_text(encoding="utf-8").split())
MODELS = {run.name: run.model for run in USUAL_RUNS}
# Keys and values: of so many blocks, so wide.
BLOCKS = {"Chroma": (57, 3072), "LongCat-Image": (30, 3072), "Flux.1 dev": (57, 3072), "Qwen-Image": (60, 3072)}


def said(pattern: str) -> list[float]:
    found = re.search(pattern, DOCUMENT)
    assert found is not None, pattern
    return [float(figure) for figure in found.groups()]


def step(model: FullSizeModel, pack: Any) -> Any:
    """MACs of a step without guidance."""
    return count_macs(build_on_meta(model), model, pack.nodes, steps=1, cfg=1.0)


def test_keys_and_values_of_the_text(pack: Any) -> None:
    most, flux, qwen = said(
        r"at most ([\d.]+) % of the MACs of a step's layers \(Chroma and LongCat-Image with 512 tokens; "
        r"([\d.]+) % of Flux, ([\d.]+) % of Qwen-Image\)"
    )
    figures = {"Chroma": most, "LongCat-Image": most, "Flux.1 dev": flux, "Qwen-Image": qwen}
    for name, (blocks, width) in BLOCKS.items():
        share = 2 * width**2 * blocks * MODELS[name].text[0] / step(MODELS[name], pack).layers
        assert 100 * share == pytest.approx(figures[name], abs=0.06), name


@pytest.mark.parametrize(("name", "of_video"), [("Chroma", False), ("LongCat-Image", False), ("Mochi 1", True)])
def test_the_texts_whole_way_through_the_blocks(name: str, of_video: bool, pack: Any) -> None:
    """Against the same step with one text token."""
    picture, video = said(r"at most (\d+) % of a picture's step and (\d+) % of a video's")
    model = MODELS[name]
    masks = {key: value[:, :1] for key, value in model.conditioning.items() if key == "attention_mask"}
    short = replace(model, text=(1, model.text[1]), conditioning={**model.conditioning, **masks})
    share = 1 - step(short, pack).full / step(model, pack).full
    assert round(100 * share) == (video if of_video else picture)
