"""The workflows that are made by a program: their files are what it makes, and their notes keep their promises."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tgate_dev.prompts import Prompt, is_sampler, to_prompt
from tgate_dev.workflows import made
from tgate_dev.workflows.note import Note
from tgate_dev.workflows.workflow import DescriptionError, Workflow

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
# What each workflow's model is to TGATE Apply; those with TGATE Apply (Advanced) say themselves where the gate is.
FAMILIES = {
    "2 Picture - SD 1.5": "sd15",
    "2 Picture - SD 2.1": "sd21",
    "2 Picture - Playground 2.5": "playground-2.5",
    "3 Video - Stable Video Diffusion": "svd",
    "2 Picture - PixArt-Alpha": "pixart",
    "2 Picture - PixArt-Sigma": "pixart",
    "1 Start here": "sd15",
    "5 More - ControlNet": "sd15",
    "5 More - Regional prompts": "sd15",
    "2 Picture - LCM PixArt-Alpha": "few-step",
    **dict.fromkeys(
        (
            "2 Picture - HunyuanDiT",
            "2 Picture - Cosmos Predict2",
            "2 Picture - Anima",
            "3 Video - Wan 2.1 from text",
            "3 Video - Wan 2.1 from a picture",
            "3 Video - LTX-Video",
            "3 Video - Cosmos 1",
            "3 Video - Kandinsky 5 Lite",
        ),
        "generic",
    ),
    **dict.fromkeys(("4 Sound - Stable Audio Open", "4 Sound - ACE-Step 1", "4 Sound - ACE-Step 1.5"), "generic"),
}

pytestmark = pytest.mark.slow


def stored(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def note_of(graph: dict[str, Any]) -> str:
    return next(node for node in graph["nodes"] if node["type"] == "MarkdownNote")["widgets_values"][0]


def run_of(prompt: Prompt) -> tuple[int, bool]:
    """Steps of the workflow's run, and whether it is guided."""
    for node in prompt.values():
        if is_sampler(node):
            return node["inputs"]["steps"], node["inputs"]["cfg"] != 1
    scheduler = next(node for node in prompt.values() if "steps" in node["inputs"])
    return scheduler["inputs"]["steps"], True


def test_files_are_what_the_descriptions_make(object_info: dict[str, Any]) -> None:
    texts = dict(made(object_info))
    assert len(texts) == 21
    for name, text in texts.items():
        assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == text, (
            f"{name} is not what its description makes: run `python3 tools/dev.py workflows`"
        )


@pytest.mark.parametrize("name", FAMILIES)
def test_note_says_what_the_presets_do(name: str, object_info: dict[str, Any], pack: Any) -> None:
    presets = pack.core("presets")
    graph = stored(name)
    steps, is_guided = run_of(to_prompt(graph, object_info))
    note = note_of(graph)
    if FAMILIES[name] == "few-step":
        gate = presets.PresetConfig("pixart").resolve(steps, is_guided).gate.gate
        assert f"step {gate:g} of {steps} on" in note
        return
    budgets = presets.BUDGETS
    shares = (budgets["balanced"].share, budgets["gentle"].share, budgets["fast"].share, budgets["fast"].careful)
    assert re.findall(r"(\d+ %)", note)[:4] == [f"{100 * share:.0f} %" for share in shares]
    if FAMILIES[name] == "generic":
        assert "nobody has published settings" in note


@pytest.mark.parametrize(
    ("kind", "inputs", "fault"),
    [
        ("NoSuchNode", {}, "no node of the type NoSuchNode"),
        ("TGATEApply", {"depth": 3}, "has no input depth"),
        ("CheckpointLoaderSimple", {}, "ckpt_name has no default"),
    ],
)
def test_a_wrong_node_is_named(kind: str, inputs: dict[str, Any], fault: str, object_info: dict[str, Any]) -> None:
    with pytest.raises(DescriptionError, match=fault):
        Workflow(object_info).group("Model", 1).node(kind, **inputs)


def test_a_wrong_output_is_named(object_info: dict[str, Any]) -> None:
    workflow = Workflow(object_info).group("Model", 1)
    loader = workflow.node("CheckpointLoaderSimple", ckpt_name="a")
    with pytest.raises(DescriptionError, match=r"no output IMAGE among \['MODEL', 'CLIP', 'VAE'\]"):
        workflow.node("TGATEApply", model=loader["IMAGE"])
    with pytest.raises(DescriptionError, match="which one"):
        workflow.node("TGATEApply", model=loader)


def test_nodes_of_a_group_stand_below_each_other(object_info: dict[str, Any]) -> None:
    workflow = Workflow(object_info).group("Model", 1)
    loader = workflow.node("CheckpointLoaderSimple", ckpt_name="a")
    workflow.node("TGATEApply", model=loader["MODEL"])
    saved = workflow.saved(Note(name="small", heading="Small", effect="Nothing."))
    note, model, gate = saved["nodes"]
    assert model["pos"][0] == gate["pos"][0] > note["size"][0]
    assert gate["pos"][1] >= model["pos"][1] + model["size"][1] + 30
    (left, top, _, height) = saved["groups"][0]["bounding"]
    assert left < model["pos"][0]
    assert top + height > gate["pos"][1] + gate["size"][1]
