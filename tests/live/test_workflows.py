"""The shipped workflows against the nodes of a running server."""

from __future__ import annotations

import copy
import re
import runpy
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tgate_dev.demo.run import GATING_NODES, make_prompts, metered
from tgate_dev.prompts import GraphError, Prompt, input_type, inputs_of, saved_widgets, to_prompt
from tgate_dev.server import Server
from tgate_dev.server_client import RefusedPromptError, queue

REPO = Path(__file__).resolve().parents[2]
# Inputs of the host's loaders that name a file of the user's; the server of the tests has none of them.
FILE_INPUTS = (
    "ckpt_name",
    "lora_name",
    "vae_name",
    "unet_name",
    "clip_name",
    "clip_name1",
    "clip_name2",
    "clip_name3",
    "clip_name4",
    "text_encoder",
    "control_net_name",
)
FILES = (*FILE_INPUTS, "image")
# What the server says of such a file; of a picture that is not there it says the second.
MISSING_FILE = ("value_not_in_list", "custom_validation_failed")
TITLE_HEIGHT = 30
PYTHON_TYPES = {"INT": (int,), "FLOAT": (int, float), "STRING": (str,), "BOOLEAN": (bool,)}

pytestmark = pytest.mark.slow

Graph = dict[str, Any]


def node_of(graph: Graph, kind: str) -> dict[str, Any]:
    return next(node for node in graph["nodes"] if node["type"] == kind)


def prompt_node(prompt: Prompt, kind: str) -> dict[str, Any]:
    return next(node for node in prompt.values() if node["class_type"] == kind)


def check_saved(graph: Graph, object_info: dict[str, Any]) -> None:
    """What the server is not shown: ids, links as the nodes at both ends keep them, and the types of values."""
    nodes, links = {node["id"]: node for node in graph["nodes"]}, graph["links"]
    assert len(nodes) == len(graph["nodes"]), "ids"
    assert max(nodes) <= graph["last_node_id"], "ids"
    assert max(link[0] for link in links) <= graph["last_link_id"], "ids"
    slots = [(number, slot, entry) for number, node in nodes.items() for slot, entry in enumerate(node["inputs"])]
    at_inputs = {(entry["link"], number, slot) for number, slot, entry in slots if entry["link"] is not None}
    assert at_inputs == {(number, target, slot) for number, _, _, target, slot, _ in links}, "links at inputs"
    slots = [(number, slot, entry) for number, node in nodes.items() for slot, entry in enumerate(node["outputs"])]
    at_outputs = {(link, number, slot) for number, slot, entry in slots for link in entry["links"] or ()}
    assert at_outputs == {(number, origin, slot) for number, origin, slot, *_ in links}, "links at outputs"
    for _, origin, slot, target, target_slot, kind in links:
        assert object_info[nodes[origin]["type"]]["output"][slot] == kind, "type of a link"
        name = nodes[target]["inputs"][target_slot]["name"]
        kinds = input_type(inputs_of(object_info[nodes[target]["type"]])[name]).split(",")
        assert {kind, "*"}.intersection(kinds), "type of a link"
    for node in nodes.values():
        widgets = saved_widgets(object_info[node["type"]]) if node["type"] in object_info else ()
        for (name, specification), value in zip(widgets, node["widgets_values"], strict=False):
            kinds = PYTHON_TYPES.get(input_type(specification), (type(value),))
            assert name is None or type(value) in kinds, "type of a value"


def test_workflow_fits_the_server(workflow: Graph, object_info: dict[str, Any]) -> None:
    check_saved(workflow, object_info)


def test_workflow_is_saved_as_the_editor_saves(workflow: Graph) -> None:
    assert workflow["version"] == 0.4
    assert {"id", "last_node_id", "last_link_id", "nodes", "links", "groups", "config", "extra"} <= workflow.keys()
    assert workflow["extra"]["ds"]["scale"] == 1


def test_server_misses_nothing_but_the_models(workflow: Graph, object_info: dict[str, Any], server: Server) -> None:
    with pytest.raises(RefusedPromptError) as refusal:
        queue(server, to_prompt(workflow, object_info))
    faults = refusal.value.errors
    assert faults
    assert {fault["type"] for fault in faults} <= set(MISSING_FILE)
    assert {fault["extra_info"]["input_name"] for fault in faults} <= set(FILES)


def test_the_example_in_the_documents_makes_the_same_prompt(workflow: Graph, object_info: dict[str, Any]) -> None:
    example = runpy.run_path(str(REPO / "docs" / "api_example.py"))
    prompt = {number: {**node, "_meta": None} for number, node in to_prompt(workflow, object_info).items()}
    made = example["to_prompt"](workflow, object_info)
    assert {number: {**node, "_meta": None} for number, node in made.items()} == prompt


def test_workflow_says_what_to_set(workflow: Graph, object_info: dict[str, Any]) -> None:
    note = node_of(workflow, "MarkdownNote")["widgets_values"][0]
    prompt = to_prompt(workflow, object_info)
    models = [node["inputs"][name] for node in prompt.values() for name in FILE_INPUTS if name in node["inputs"]]
    assert models
    assert all(model in note for model in models)
    assert re.search("The (picture|sound|shape) will change", note)


def test_note_says_where_to_get_every_model(workflow: Graph, object_info: dict[str, Any]) -> None:
    note = node_of(workflow, "MarkdownNote")["widgets_values"][0]
    addresses = re.findall(r"\]\((https://[^)]+)\)", note)
    assert addresses
    for node in workflow["nodes"]:
        for model in node["properties"].get("models", ()):
            assert model["url"] in addresses
            assert model["name"] in node["widgets_values"]


def test_gate_stands_right_before_the_sampler(workflow: Graph, object_info: dict[str, Any]) -> None:
    prompt = to_prompt(workflow, object_info)
    samplers = [node for node in prompt.values() if {"model", "latent_image"} <= node["inputs"].keys()]
    origins = [prompt[node["inputs"]["model"][0]]["class_type"] for node in samplers]
    gated = [origin in GATING_NODES for origin in origins]
    plain = [node["_meta"]["title"] == "Sampler without TGATE" for node in samplers]
    assert any(gated)
    assert all(is_gated != is_plain for is_gated, is_plain in zip(gated, plain, strict=True))


def test_no_node_is_one_that_the_host_wants_to_drop(workflow: Graph, object_info: dict[str, Any]) -> None:
    assert not [node["type"] for node in workflow["nodes"] if object_info.get(node["type"], {}).get("deprecated")]


def test_nothing_overlaps(workflow: Graph) -> None:
    def box(node: dict[str, Any]) -> tuple[float, float, float, float]:
        (x, y), (width, height) = node["pos"], node["size"]
        return x, y - TITLE_HEIGHT, x + width, y + height

    def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
        return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]

    def bounds(group: dict[str, Any]) -> tuple[float, float, float, float]:
        x, y, width, height = group["bounding"]
        return x, y, x + width, y + height

    boxes = [box(node) for node in workflow["nodes"]]
    assert not any(overlap(a, b) for a, b in combinations(boxes, 2))
    assert not any(overlap(bounds(a), bounds(b)) for a, b in combinations(workflow["groups"], 2))


def test_links_lead_to_the_right(workflow: Graph) -> None:
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for _, origin, _, target, *_ in workflow["links"]:
        assert nodes[origin]["pos"][0] <= nodes[target]["pos"][0]


def _wrong_link_type(graph: Graph) -> None:
    graph["links"][0][5] = "CLIP"


def _lost_link(graph: Graph) -> None:
    del graph["links"][0]


def _number_as_text(graph: Graph) -> None:
    node_of(graph, "TGATEApplyAdvanced")["widgets_values"][2] = "5"


def _lost_input(graph: Graph) -> None:
    node_of(graph, "KSampler")["inputs"][0]["link"] = None


def _lost_output(graph: Graph) -> None:
    node_of(graph, "TGATEApplyAdvanced")["outputs"][0]["links"] = None


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (_wrong_link_type, "type of a link"),
        (_lost_link, "links at inputs"),
        (_number_as_text, "type of a value"),
        (_lost_input, "links at inputs"),
        (_lost_output, "links at outputs"),
    ],
)
def test_check_notices(
    damage: Callable[[Graph], None], expected: str, sdxl: Graph, object_info: dict[str, Any]
) -> None:
    damage(sdxl)
    with pytest.raises(AssertionError, match=expected):
        check_saved(sdxl, object_info)


def test_an_unconnected_input_is_refused(sdxl: Graph, object_info: dict[str, Any], server: Server) -> None:
    prompt = to_prompt(sdxl, object_info)
    del prompt_node(prompt, "KSampler")["inputs"]["model"]
    with pytest.raises(RefusedPromptError, match="KSampler: Required input is missing"):
        queue(server, prompt)


def test_a_missing_value_is_an_error(sdxl: Graph, object_info: dict[str, Any]) -> None:
    node_of(sdxl, "TGATEApplyAdvanced")["widgets_values"].pop()
    with pytest.raises(GraphError, match="13 values for 14 widgets"):
        to_prompt(sdxl, object_info)


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("sp_interval", 0, "value_smaller_than_min"),
        ("gate", -1.0, "value_smaller_than_min"),
        ("gate", 10001.0, "value_bigger_than_max"),
        ("guidance", "none", "value_not_in_list"),
        ("warm_up", "two", "invalid_input_type"),
    ],
)
def test_server_rejects_a_bad_value(
    name: str, value: object, fault: str, sdxl: Graph, object_info: dict[str, Any], server: Server
) -> None:
    prompt = to_prompt(sdxl, object_info)
    prompt_node(prompt, "TGATEApplyAdvanced")["inputs"][name] = value
    with pytest.raises(RefusedPromptError) as refusal:
        queue(server, prompt)
    faults = [error for error in refusal.value.errors if error["class_type"] == "TGATEApplyAdvanced"]
    assert [(error["type"], error["extra_info"]["input_name"]) for error in faults] == [(fault, name)]


def test_bypassed_gate_leaves_the_loaders_model(sd15: Graph, object_info: dict[str, Any]) -> None:
    bypassed = copy.deepcopy(sd15)
    node_of(bypassed, "TGATEApply")["mode"] = 4
    prompt = to_prompt(bypassed, object_info)
    assert prompt == to_prompt(sd15, object_info, bypassed=GATING_NODES)
    origin, slot = prompt_node(prompt, "KSampler")["inputs"]["model"]
    assert (prompt[origin]["class_type"], slot) == ("CheckpointLoaderSimple", 0)
    assert "TGATEApply" not in {node["class_type"] for node in prompt.values()}


def test_switched_off_node_is_left_out(sd15: Graph, object_info: dict[str, Any]) -> None:
    node_of(sd15, "EmptyLatentImage")["mode"] = 2
    prompt = to_prompt(sd15, object_info)
    assert "latent_image" not in prompt_node(prompt, "KSampler")["inputs"]


def test_prompt_has_every_value_under_its_name(sd15: Graph, object_info: dict[str, Any]) -> None:
    inputs = prompt_node(to_prompt(sd15, object_info), "KSampler")["inputs"]
    values = {name: value for name, value in inputs.items() if not isinstance(value, list)}
    assert values == {
        "seed": 156680208700286,
        "steps": 25,
        "cfg": 7,
        "sampler_name": "dpmpp_2m",
        "scheduler": "karras",
        "denoise": 1,
    }


def test_prompt_of_an_unknown_node_is_an_error(sd15: Graph, object_info: dict[str, Any]) -> None:
    node_of(sd15, "TGATEApply")["type"] = "Gone"
    with pytest.raises(GraphError, match="no node of the type Gone"):
        to_prompt(sd15, object_info)


def test_demo_changes_checkpoint_steps_and_size_alone(sd15: Graph, object_info: dict[str, Any]) -> None:
    prompts = make_prompts(sd15, object_info, "mine.safetensors", 7, 256)
    own = to_prompt(sd15, object_info)
    changed = {
        (node["class_type"], name): value
        for node_id, node in prompts["balanced"].items()
        for name, value in node["inputs"].items()
        if own[node_id]["inputs"][name] != value
    }
    assert changed == {
        ("CheckpointLoaderSimple", "ckpt_name"): "mine.safetensors",
        ("EmptyLatentImage", "width"): 256,
        ("EmptyLatentImage", "height"): 256,
        ("KSampler", "steps"): 7,
    }
    del prompts["plain"]
    presets = {name: prompt_node(prompt, "TGATEApply")["inputs"]["preset"] for name, prompt in prompts.items()}
    assert presets == {name: name for name in ("balanced", "gentle", "fast", "as published")}


def test_meter_stands_between_gate_and_sampler(sd15: Graph, object_info: dict[str, Any]) -> None:
    gated = make_prompts(sd15, object_info, "mine.safetensors", None, None)["balanced"]
    prompt = metered(gated)
    meter_id, _ = prompt_node(prompt, "KSampler")["inputs"]["model"]
    meter = prompt[meter_id]
    assert meter["class_type"] == "TGATEDevMeter"
    assert prompt[meter["inputs"]["model"][0]]["class_type"] == "TGATEApply"
    assert meter_id not in gated
