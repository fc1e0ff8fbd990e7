"""What a real server says about the pack."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tgate_dev.prompts import choices_of, input_type, inputs_of, options_of
from tgate_dev.server import PACK_NAME, Server

REPO = Path(__file__).resolve().parents[2]
NODES = {
    "TGATEApply": "TGATE Apply",
    "TGATEApplyAdvanced": "TGATE Apply (Advanced)",
    "TGATEDeepCache": "TGATE DeepCache",
    "TGATEForecast": "TGATE Forecast",
    "TGATEReport": "TGATE Report",
    "TGATEProbe": "TGATE Probe",
    "TGATEConvergencePlot": "TGATE Convergence Plot",
    "TGATESaveProbe": "TGATE Save Probe",
    "TGATELoadProbe": "TGATE Load Probe",
}
# Those that change how a model samples.
PATCHES = ("TGATEApply", "TGATEApplyAdvanced", "TGATEDeepCache", "TGATEForecast")
PRESETS = ["balanced", "gentle", "fast", "as published"]

# Name, type, default, and either the range or the choices, in the order of the node.
ADVANCED = [
    ("gate", "FLOAT", 0.2, (0.0, 10000.0)),
    ("gate_unit", "COMBO", "fraction of steps", ["step", "fraction of steps", "percent of schedule", "measured"]),
    ("sp_interval", "INT", 5, (1, 10000)),
    ("fi_interval", "INT", 1, (1, 10000)),
    ("warm_up", "INT", 2, (0, 10000)),
    ("cross_attention", "BOOLEAN", True, None),
    ("self_attention", "BOOLEAN", True, None),
    ("guidance", "COMBO", "cached_delta", ["uncond", "cond", "cond_mean", "cached_delta", "keep"]),
    ("protect_last", "INT", 0, (0, 10000)),
    ("cache_device", "COMBO", "auto", ["auto", "model", "cpu"]),
    ("cache_limit_mb", "INT", 0, (0, 2**20)),
]
REFRESH = [
    ("refresh", "COMBO", "growing gaps", ["never", "growing gaps", "by error"]),
    ("refresh_gap", "INT", 2, (1, 10000)),
    ("refresh_tolerance", "FLOAT", 0.7, (0.0, 2.0)),
]
DEEP_CACHE = [
    ("cache_interval", "INT", 3, (1, 10000)),
    ("cache_branch_id", "INT", 0, (0, 10)),
    ("start", "FLOAT", 0.0, (0.0, 1.0)),
    ("end", "FLOAT", 1.0, (0.0, 1.0)),
]
FORECAST = [
    ("strength", "INT", 1, (1, 4)),
    ("start", "FLOAT", 0.12, (0.0, 1.0)),
    ("end", "FLOAT", 0.85, (0.0, 1.0)),
]
INPUTS = {"TGATEApplyAdvanced": ADVANCED, "TGATEDeepCache": DEEP_CACHE, "TGATEForecast": FORECAST}
OPTIONAL = {
    "TGATEApplyAdvanced": {**{name: kind for name, kind, *_ in REFRESH}, "probe": "TGATE_PROBE"},
    "TGATEDeepCache": {},
    "TGATEForecast": {},
}

pytestmark = pytest.mark.slow


def test_pack_registers_exactly_its_nodes(object_info: dict[str, Any]) -> None:
    ours = {name: info["display_name"] for name, info in object_info.items() if PACK_NAME in info["python_module"]}
    assert ours == NODES


def test_pack_loads_without_a_complaint(server: Server) -> None:
    log = server.written()
    place = str(server.base / "custom_nodes" / PACK_NAME)
    about_us = [line for line in log.splitlines() if place in line]
    assert about_us, "the log does not mention the pack: it was not even looked at"
    complaints = ("IMPORT FAILED", "Cannot import", "Error", "Skip")
    assert not [line for line in about_us if any(complaint in line for complaint in complaints)]
    assert "Unable to parse pyproject.toml" not in log


@pytest.mark.parametrize("node", NODES)
def test_node_is_in_its_category_and_says_what_it_is_for(object_info: dict[str, Any], node: str) -> None:
    assert object_info[node]["category"] == "model/TGATE"
    assert object_info[node]["description"]


@pytest.mark.parametrize("node", PATCHES)
def test_node_takes_and_gives_a_model(object_info: dict[str, Any], node: str) -> None:
    info = object_info[node]
    assert info["input_order"]["required"][0] == "model"
    assert input_type(info["input"]["required"]["model"]) == "MODEL"
    assert info["output"] == ["MODEL"]


@pytest.mark.parametrize("node", NODES)
def test_every_input_and_output_has_a_tooltip(object_info: dict[str, Any], node: str) -> None:
    info = object_info[node]
    assert all(len(options_of(specification)["tooltip"]) > 20 for specification in inputs_of(info).values())
    assert all(info["output_tooltips"])


def test_apply_has_one_preset(object_info: dict[str, Any]) -> None:
    info = object_info["TGATEApply"]
    assert list(inputs_of(info)) == ["model", "preset"]
    preset = info["input"]["required"]["preset"]
    assert choices_of(preset) == PRESETS
    assert options_of(preset)["default"] == "balanced"


@pytest.mark.parametrize("node", INPUTS)
def test_node_has_its_inputs_in_order(object_info: dict[str, Any], node: str) -> None:
    info = object_info[node]
    assert list(info["input"]["required"]) == ["model", *(row[0] for row in INPUTS[node])]
    assert {key: input_type(one) for key, one in info["input"].get("optional", {}).items()} == OPTIONAL[node]


@pytest.mark.parametrize(
    ("node", "name", "kind", "default", "values"),
    [
        pytest.param(node, *row, id=f"{node} {row[0]}")
        for node, rows in (*INPUTS.items(), ("TGATEApplyAdvanced", REFRESH))
        for row in rows
    ],
)
def test_input(object_info: dict[str, Any], node: str, name: str, kind: str, default: Any, values: Any) -> None:
    specification = inputs_of(object_info[node])[name]
    options = options_of(specification)
    assert input_type(specification) == kind
    assert options["default"] == default
    if kind == "COMBO":
        assert choices_of(specification) == values
    elif values is not None:
        assert (options["min"], options["max"]) == values
        assert options["step"] > 0


@pytest.mark.parametrize("node", NODES)
def test_help_page_is_served(server: Server, node: str) -> None:
    with urllib.request.urlopen(f"{server.address}/extensions/{PACK_NAME}/docs/{node}.md") as answer:
        assert NODES[node] in answer.read().decode()


def test_workflows_are_offered_as_templates(server: Server) -> None:
    templates = server.get_json("/workflow_templates")[PACK_NAME]
    assert {"1 Start here", "2 Picture - SD 1.5", "2 Picture - SDXL", "4 Sound - ACE-Step 1.5"} <= set(templates)
    for name in templates:
        # The editor looks for its picture there.
        with urllib.request.urlopen(f"{server.address}/api/workflow_templates/{PACK_NAME}/{quote(name)}.jpg") as answer:
            assert answer.headers.get_content_type() == "image/jpeg"
    assert sorted(templates) == sorted(path.stem for path in (REPO / "workflows").glob("*.json"))
