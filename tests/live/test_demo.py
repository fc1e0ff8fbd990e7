"""The demo from end to end: server, all runs, counts, pictures that show what the prompt says, report."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from tgate_dev import demo
from tgate_dev.cli import parse
from tgate_dev.comfyui import read_version
from tgate_dev.demo.run import SCENE
from tgate_dev.environment import Environment
from tgate_dev.scenes import painting, world

STEPS = 20  # the fewest in which every preset keeps to its budget
GATE = 4  # of the preset `as published`
# The checkpoint's transformer blocks, each with a cross- and a self-attention.
BLOCKS = 6

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    comfyui = Path(os.environ["TGATE_COMFYUI"])
    environment = Environment(Path(sys.executable), comfyui, read_version(comfyui))
    with pytest.MonkeyPatch.context() as patch:
        # The environment that the tests run in, whatever else is installed.
        patch.setattr(demo, "ensure", lambda version, verbose: environment)
        assert demo.main(parse(["demo", "--steps", str(STEPS), "--out", str(folder)])) == 0
    return folder


@pytest.fixture(scope="module")
def variants(out: Path) -> dict[str, dict[str, Any]]:
    report = json.loads((out / "table.json").read_text(encoding="utf-8"))
    return {variant["name"]: variant for variant in report["variants"]}


def test_plain_stands_beside_each_preset(variants: dict[str, Any]) -> None:
    assert list(variants) == ["plain", "balanced", "gentle", "fast", "as published"]
    assert len({len(variant["seconds"]) for variant in variants.values()}) == 1


def test_plain_run_computes_everything(variants: dict[str, Any]) -> None:
    assert variants["plain"]["measured"] == {"model_calls": STEPS, "branches": 2 * STEPS}


def test_gated_run_skips_what_it_should(variants: dict[str, Any]) -> None:
    measured = variants["as published"]["measured"]
    assert measured["model_calls"] == STEPS
    assert measured["branches"] == STEPS + GATE
    assert measured["attentions_reused"] == (STEPS - GATE) * BLOCKS
    assert measured["peak_cache_bytes"] > 0
    # From the gate on one branch of two runs, and in that no cross-attention.
    assert measured["macs"] < (STEPS + GATE) / (2 * STEPS) * measured["plain_macs"]


def test_presets_keep_to_their_budget(variants: dict[str, Any]) -> None:
    plain = variants["plain"]["measured"]["branches"]
    # Steps of so short a run are long for dpmpp_2m: `fast` needs half of the work there.
    shares = {"balanced": 0.62, "gentle": 0.72, "fast": 0.5}
    branches = {name: variants[name]["measured"]["branches"] for name in shares}
    assert all(branches[name] <= plain * share + 1e-9 for name, share in shares.items())
    assert branches["fast"] < branches["balanced"] < branches["gentle"]


def test_plain_picture_shows_what_the_prompt_says(out: Path) -> None:
    picture = pil_to_tensor(Image.open(out / "plain.png").convert("RGB")).unsqueeze(0) / 255
    assert world.prompt(painting.load_judge().attributes(picture)[0]) == SCENE


def test_pictures_differ(out: Path) -> None:
    plain, gated = (pil_to_tensor(Image.open(out / f"{name}.png")) for name in ("plain", "balanced"))
    assert plain.shape == gated.shape
    assert not torch.equal(plain, gated)
    row = Image.open(out / "side-by-side.png")
    assert row.width > 5 * plain.shape[-1]


def test_report_says_what_the_model_is(out: Path) -> None:
    table = (out / "table.md").read_text(encoding="utf-8")
    assert "trained on drawn scenes" in table
    assert "| sampling, s " in table


def test_server_log_is_kept(out: Path) -> None:
    assert "Prompt executed" in (out / "server.log").read_text(encoding="utf-8", errors="replace")
