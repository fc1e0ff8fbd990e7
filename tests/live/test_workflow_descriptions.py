"""The workflows that are made by a program: their files are what it makes, and their notes keep their promises."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import comfy.samplers
import pytest
import yaml

from tgate_dev import workflows
from tgate_dev.prompts import Prompt, is_sampler, to_prompt
from tgate_dev.workflows import made
from tgate_dev.workflows.models import Model
from tgate_dev.workflows.note import ALONE, HELD, JOINT, USUAL, Note
from tgate_dev.workflows.recipes import Recipe
from tgate_dev.workflows.workflow import DescriptionError, File, Workflow

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
    "5 More - Hunyuan3D 2.1": "guidance alone",
    **dict.fromkeys(
        (
            "2 Picture - HunyuanDiT",
            "2 Picture - Cosmos Predict2",
            "2 Picture - Anima",
            "3 Video - Wan 2.1 from text",
            "3 Video - Wan 2.1 from a picture",
            "3 Video - Wan 2.2 from text",
            "3 Video - LTX-Video",
            "3 Video - LTX-2",
            "3 Video - Cosmos 1",
            "3 Video - Kandinsky 5 Lite",
            "4 Sound - Stable Audio Open",
            "4 Sound - Stable Audio 3",
            "4 Sound - ACE-Step 1",
            "4 Sound - ACE-Step 1.5",
        ),
        "generic",
    ),
    **dict.fromkeys(
        (
            "2 Picture - Qwen-Image",
            "2 Picture - Qwen-Image-Edit",
            "2 Picture - Z-Image",
            "2 Picture - Flux.2 Klein",
            "2 Picture - Chroma",
            "2 Picture - SD 3.5",
            "2 Picture - NetaYume Lumina",
            "2 Picture - HiDream I1",
            "2 Picture - OmniGen 2",
            "2 Picture - Ernie-Image",
            "3 Video - HunyuanVideo 1.5",
        ),
        "joint",
    ),
}
TABLE = yaml.safe_load(workflows.TABLE.read_text(encoding="utf-8"))
OF_BLUEPRINTS = [model for model in (Model(**row) for row in TABLE["models"]) if model.blueprint]
RECIPES_OF_BLUEPRINTS = [row for row in (Recipe(**row) for row in TABLE["recipes"]) if row.blueprint]
# Nodes of a blueprint in which people set something of their own; what is set in the others is the model's.
FREE = ("LoadImage", "TextEncodeQwenImageEditPlus")

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


def sampler_of(prompt: Prompt) -> str:
    """The host's name of the function that the workflow samples with."""
    name = next(node["inputs"]["sampler_name"] for node in prompt.values() if "sampler_name" in node["inputs"])
    return comfy.samplers.sampler_object(name).sampler_function.__name__.removeprefix("sample_")


def test_files_are_what_the_descriptions_make(object_info: dict[str, Any]) -> None:
    texts = dict(made(object_info))
    assert len(texts) == 36
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
        gate = presets.PresetConfig("pixart").resolve(range(steps, -1, -1), is_guided).gate.gate
        assert f"step {gate:g} of {steps} on" in note
        return
    budgets = presets.BUDGETS
    fast = budgets["fast"]
    shares = (budgets["balanced"].share, budgets["gentle"].share, fast.with_flow, fast.without_forecast)
    assert f"{100 * fast.share:.0f} to {100 * fast.with_flow:.0f} %" in note
    assert re.findall(r"(\d+ %)", note)[:4] == [f"{100 * share:.0f} %" for share in shares]
    assert ("nobody has published settings" in note) == (FAMILIES[name] == "generic")
    is_held = HELD.split("{")[0] in note
    assert is_held is not (USUAL in note)
    assert is_held is not (sampler_of(to_prompt(graph, object_info)) in pack.core("forecast.technique").PRESET_SAMPLERS)
    assert ("and the cross-attention" in note) == (is_held and FAMILIES[name] != "joint")
    assert (JOINT in note) == (FAMILIES[name] == "joint")
    assert (ALONE in note) == (FAMILIES[name] == "guidance alone")


@pytest.mark.parametrize("name", FAMILIES)
def test_family_is_told_in_the_graph(name: str) -> None:
    nodes = [node for node in stored(name)["nodes"] if node["type"] == "TGATEApply"]
    family = {"few-step": "pixart", "joint": "joint attention"}.get(FAMILIES[name], FAMILIES[name])
    assert {node["properties"]["tgate_family"] for node in nodes} == {family}


def widgets_of(blueprint: str) -> dict[str, list[Any]]:
    """What is set in the nodes of a blueprint of the host, by their types; and the places of its files, as "models"."""
    file = Path(os.environ["TGATE_COMFYUI"]) / "blueprints" / f"{blueprint}.json"
    found: dict[str, list[Any]] = {"models": []}
    for subgraph in json.loads(file.read_text(encoding="utf-8"))["definitions"]["subgraphs"]:
        for node in subgraph["nodes"]:
            found.setdefault(node["type"], []).extend(node.get("widgets_values") or [])
            found["models"] += [model["url"] for model in node.get("properties", {}).get("models", [])]
    return found


@pytest.mark.parametrize("model", OF_BLUEPRINTS, ids=lambda model: model.name)
def test_files_and_settings_are_those_of_the_hosts_blueprint(model: Model) -> None:
    found = widgets_of(model.blueprint)
    files = [File.of(row) for row in (model.file, model.vae, *model.clip) if row]
    assert {file.url for file in files} <= set(found["models"])
    numbers = [value for values in found.values() for value in values if type(value) in (int, float)]
    steps, cfg, sampler, scheduler = model.run
    assert {sampler, scheduler} <= set(found["KSampler"])
    assert {steps, cfg} <= set(numbers)
    assert not model.clip_type or model.clip_type in found["CLIPLoader"]
    for kind, settings in filter(None, (model.latent, model.sampling)):
        assert all(pytest.approx(value) in found[kind] or value in numbers for value in settings.values()), kind


@pytest.mark.parametrize("recipe", RECIPES_OF_BLUEPRINTS, ids=lambda recipe: recipe.name)
def test_nodes_of_a_recipe_are_those_of_the_hosts_blueprint(recipe: Recipe) -> None:
    """All of them, set as there, but for the seed; with a node of ours, and those that the editor has outside of it."""
    found, nodes = widgets_of(recipe.blueprint), stored(recipe.name)["nodes"]
    assert found.keys() - {"models", "Note", "MarkdownNote"} <= {node["type"] for node in nodes}
    files = {model["url"] for node in nodes for model in node["properties"].get("models", [])}
    assert files == set(found["models"])
    for node in nodes:
        expected = found.get(node["type"], [])
        if node["type"] not in (*FREE, "MarkdownNote") and expected:
            values = node["widgets_values"][2:] if node["type"] == "KSampler" else node["widgets_values"]
            assert all(value in expected for value in values[: len(expected)]), node["type"]


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
