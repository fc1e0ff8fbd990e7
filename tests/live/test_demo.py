"""The demo from end to end, with few steps and stand-in weights: server, both runs, counts, pictures, report."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops

from tgate_dev import demo
from tgate_dev.comfyui import read_version
from tgate_dev.demo import ready_standin
from tgate_dev.demo.run import found
from tgate_dev.environment import Environment

REPO = Path(__file__).resolve().parents[2]
STEPS = 4
# The stand-in's transformer blocks, each with a cross- and a self-attention.
ATTENTIONS = 2 * 7
# With few steps the gate is at step 1, and from there on one branch runs and cross-attention does not.
CALLS_WITHOUT_TEXT = STEPS - 1

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    comfyui = Path(os.environ["TGATE_COMFYUI"])
    environment = Environment(Path(sys.executable), comfyui, read_version(comfyui))
    # Where there is a checkpoint, the demo would take that.
    checkpoint = ready_standin(environment) if found(comfyui / "models" / "checkpoints", "") else None
    arguments = argparse.Namespace(
        checkpoint=checkpoint, workflow=REPO / "workflows" / "sd15.json", steps=STEPS, out=folder, verbose=False
    )
    with pytest.MonkeyPatch.context() as patch:
        # The environment that the tests run in, whatever else is installed.
        patch.setattr(demo, "ensure", lambda version, verbose: environment)
        assert demo.main(arguments) == 0
    return folder


@pytest.fixture(scope="module")
def report(out: Path) -> dict[str, Any]:
    return json.loads((out / "table.json").read_text(encoding="utf-8"))


def test_plain_run_computes_everything(report: dict[str, Any]) -> None:
    measured = report["plain"]["measured"]
    assert measured["model_calls"] == STEPS
    assert measured["branches"] == 2 * STEPS
    assert measured["attention_made"] == STEPS * ATTENTIONS
    assert measured["tgate"] == {}


def test_gated_run_skips_what_it_should(report: dict[str, Any]) -> None:
    measured = report["gated"]["measured"]
    assert measured["model_calls"] == STEPS
    assert measured["branches"] == 2 * STEPS - CALLS_WITHOUT_TEXT
    skipped = CALLS_WITHOUT_TEXT * ATTENTIONS // 2
    assert measured["attention_made"] == STEPS * ATTENTIONS - skipped
    assert measured["tgate"]["attentions_reused"] == skipped
    assert measured["tgate"]["attentions_computed"] == measured["attention_made"]
    assert measured["tgate"]["cond_only_passes"] == CALLS_WITHOUT_TEXT
    assert measured["tgate"]["peak_cache_bytes"] > 0


def test_gating_saves_operations(report: dict[str, Any]) -> None:
    plain, gated = report["plain"]["measured"], report["gated"]["measured"]
    # Five of eight branch evaluations are left, and in three of those no cross-attention.
    assert gated["layer_macs"] < 5 / 8 * plain["layer_macs"]
    assert 0 < gated["attention_macs"] < 5 / 8 * plain["attention_macs"]


def test_pictures_are_texture_and_differ(out: Path) -> None:
    plain, gated = (Image.open(out / name).convert("RGB") for name in ("plain.png", "tgate.png"))
    assert plain.size == gated.size
    for picture in (plain, gated):
        assert all(highest - lowest > 100 for lowest, highest in picture.getextrema())
    assert ImageChops.difference(plain, gated).getbbox() is not None
    pair = Image.open(out / "side-by-side.png")
    assert pair.width > 2 * plain.width
    assert pair.height > plain.height


def test_report_says_what_it_is_worth(out: Path, report: dict[str, Any]) -> None:
    assert any("random" in remark for remark in report["remarks"])
    table = (out / "table.md").read_text(encoding="utf-8")
    assert "| sampling, s  " in table
    assert "random" in table
    assert len(report["plain"]["sampling_seconds"]) == len(report["gated"]["sampling_seconds"]) >= 1


def test_server_log_is_kept(out: Path) -> None:
    assert "Prompt executed" in (out / "server.log").read_text(encoding="utf-8", errors="replace")
