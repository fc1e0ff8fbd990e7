"""The shipped workflows, opened in the editor as a person opens them."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from strip_editor import StripEditor

REPO = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((REPO / "workflows").glob("*.json"))
OURS = ("TGATEApply", "TGATEApplyAdvanced")
TITLE_HEIGHT = 30
REFRESH = {"refresh": "never", "refresh_gap": 2, "refresh_tolerance": 0.7}

STATE = """() => window.app.rootGraph.nodes.map((node) => ({
  id: Number(node.id), type: node.type, box: [...node.pos, ...node.size],
  is_missing: !(node.type in window.LiteGraph.registered_node_types),
  values: node.serialize().widgets_values ?? null,
}))"""

pytestmark = pytest.mark.slow

Nodes = list[dict[str, Any]]


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def workflow(request: pytest.FixtureRequest, editor: StripEditor) -> Path:
    editor.open_file(request.param)
    return Path(request.param)


def saved(workflow: Path) -> dict[int, Any]:
    graph = json.loads(workflow.read_text(encoding="utf-8"))
    return {node["id"]: node for node in graph["nodes"]}


def overlap(a: list[float], b: list[float]) -> bool:
    (left, top, width, height), (other_left, other_top, other_width, other_height) = a, b
    beside = left + width <= other_left or other_left + other_width <= left
    above = top + height <= other_top - TITLE_HEIGHT or other_top + other_height <= top - TITLE_HEIGHT
    return not (beside or above)


def test_workflow_opens_whole_and_stays_as_it_is(workflow: Path, editor: StripEditor) -> None:
    nodes: Nodes = editor.page.evaluate(STATE)
    graph = saved(workflow)
    assert [node["type"] for node in nodes if node["is_missing"]] == []
    assert {node["id"] for node in nodes} == graph.keys()
    # The strip must not be among the saved values, where it would shift what comes after.
    assert {node["id"]: node["values"] for node in nodes if node["type"] in OURS} == {
        number: node["widgets_values"] for number, node in graph.items() if node["type"] in OURS
    }
    # With the strip, nodes are taller than their settings alone.
    touching = [(a["type"], b["type"]) for a, b in combinations(nodes, 2) if overlap(a["box"], b["box"])]
    assert touching == []
    kinds = [node["type"] for node in nodes if node["type"] in OURS]
    for kind in kinds:
        strip = editor.wait_for_strip(kind, "Plan")
        assert len(strip.bars) >= 4
        # The graph says of which family its model is, whose file is not there.
        assert "As for SDXL" not in strip.caption
        # Where a probe sets the gate, a run alone can tell; and with some samplers steps are predicted instead.
        has_gate = "probe" not in strip.title and "steps predicted" not in strip.title
        assert 0 < strip.gate < len(strip.bars) if has_gate else strip.gate == -1


def test_graph_of_before_refresh_opens_with_its_defaults(editor: StripEditor, tmp_path: Path) -> None:
    """It holds values for the widgets that there were, and none for those behind them."""
    graph = json.loads((REPO / "workflows" / "2 Picture - SDXL.json").read_text(encoding="utf-8"))
    node = next(node for node in graph["nodes"] if node["type"] == "TGATEApplyAdvanced")
    del node["widgets_values"][-len(REFRESH) :]
    node["inputs"] = [one for one in node["inputs"] if one["name"] not in REFRESH]
    file = tmp_path / "older.json"
    file.write_text(json.dumps(graph), encoding="utf-8")
    editor.open_file(file)
    prompt = editor.page.evaluate("async () => (await window.app.graphToPrompt()).output")
    inputs = next(one["inputs"] for one in prompt.values() if one["class_type"] == "TGATEApplyAdvanced")
    assert {name: inputs.get(name) for name in REFRESH} == REFRESH
