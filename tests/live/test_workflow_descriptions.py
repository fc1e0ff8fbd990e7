"""The workflows that are made by a program: their files are what it makes, and their notes keep their promises."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tgate_dev.server_graph import Prompt, is_sampler, to_prompt
from tgate_dev.workflows.command import made, written
from tgate_dev.workflows.description import Group, Node, Note, Workflow
from tgate_dev.workflows.layout import place
from tgate_dev.workflows.saved import DescriptionError, saved

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
# What each workflow's model is to TGATE Apply; those with TGATE Apply (Advanced) say themselves where the gate is.
FAMILIES = {
    "sd15": "sd15",
    "sd21": "sd21",
    "playground25": "playground-2.5",
    "svd": "svd",
    "pixart_alpha": "pixart",
    "pixart_sigma": "pixart",
    "compare": "sd15",
    "controlnet": "sd15",
    "regional": "sd15",
    "lcm_pixart": "few-step",
    **dict.fromkeys(
        ("hunyuan_dit", "cosmos_predict2", "anima", "wan_t2v", "wan_i2v", "ltxv", "cosmos1", "kandinsky5"), "generic"
    ),
    **dict.fromkeys(("stable_audio", "ace_step", "ace_step15"), "generic"),
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
    graphs = dict(made(object_info))
    assert len(graphs) == 20
    for name, graph in graphs.items():
        assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == written(graph), (
            f"{name} is not what its description makes: run `python3 tools/dev.py workflows`"
        )


@pytest.mark.parametrize("name", FAMILIES)
def test_note_says_where_the_presets_gate(name: str, object_info: dict[str, Any], pack: Any) -> None:
    presets = pack.core("gate.presets")
    graph = stored(name)
    steps, is_guided = run_of(to_prompt(graph, object_info))
    family = FAMILIES[name] if FAMILIES[name] != "few-step" else "pixart"

    def gate(preset: str) -> int:
        return int(presets.PresetConfig(family, preset).resolve(steps, is_guided).gate)

    note = note_of(graph)
    assert f"step {gate('balanced')} of {steps} on" in note
    for preset in ("gentle", "fast"):
        promised = re.search(rf"\*\*{preset}\*\*: gates at step (\d+)", note)
        assert promised is None or int(promised[1]) == gate(preset)
    if FAMILIES[name] == "generic":
        assert "Nobody has published settings" in note


SMALL_NOTE = Note("Small", (), (), "Nothing.", (), ())


def small(**changes: Any) -> Workflow:
    """Two nodes below each other, the first of them changed."""
    first = Node(**{"name": "model", "kind": "CheckpointLoaderSimple", "values": {"ckpt_name": "a"}, **changes})
    gate = Node("gate", "TGATEApply", links={"model": "model.MODEL"})
    return Workflow("small", SMALL_NOTE, (Group("Model", 1, (first, gate)),))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"kind": "NoSuchNode"}, "no node of the type NoSuchNode"),
        ({"values": {"ckpt_name": "a", "depth": 3}}, "has no input depth"),
        ({"values": {}}, "ckpt_name has no default"),
        ({"kind": "VAELoader", "values": {"vae_name": "pixel_space"}}, "no output MODEL"),
        ({"name": "loader"}, "no node model"),
    ],
)
def test_a_wrong_description_is_named(changes: dict[str, Any], fault: str, object_info: dict[str, Any]) -> None:
    with pytest.raises(DescriptionError, match=fault):
        saved(small(**changes), object_info)


def test_links_in_a_circle_are_named(object_info: dict[str, Any]) -> None:
    nodes = (
        Node("one", "TGATEApply", links={"model": "two"}),
        Node("two", "TGATEApply", links={"model": "one"}),
    )
    with pytest.raises(DescriptionError, match="in a circle"):
        saved(Workflow("circle", SMALL_NOTE, (Group("T-GATE", 1, nodes),)), object_info)


def test_nodes_of_a_group_stand_below_each_other(object_info: dict[str, Any]) -> None:
    layout = place(small(), object_info, left=100)
    model, gate = layout.nodes["model"], layout.nodes["gate"]
    frame = layout.groups[0]
    assert (model.x, model.y) == (100, 0)
    assert gate.y >= model.y + model.height + 30
    assert frame.x < model.x
    assert frame.y + frame.height > gate.y + gate.height
