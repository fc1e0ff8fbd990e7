"""The subgraph that the editor offers: it opens whole, its node sets what people set, and its strip knows the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from strip_editor import StripEditor

from tgate_dev.server import Server

NAME = "Text to image with TGATE"
FILE = Path(__file__).resolve().parents[2] / "subgraphs" / f"{NAME}.json"
STRIP = """() => {
  const [subgraph] = [...window.app.rootGraph.subgraphs.values()];
  const gate = subgraph.nodes.find((node) => node.type === 'TGATEApply');
  return gate.widgets.find((widget) => widget.name === 'tgate_schedule').element.shadowRoot.textContent;
}"""

pytestmark = pytest.mark.slow


def test_the_server_offers_it(server: Server) -> None:
    offered = server.get_json("/global_subgraphs").values()
    assert [one["info"]["node_pack"] for one in offered if one["name"] == NAME] == ["custom_nodes.comfyui-tgate-nodes"]


def test_it_opens_and_its_settings_reach_the_nodes_inside(editor: StripEditor) -> None:
    graph = json.loads(FILE.read_text(encoding="utf-8"))
    editor.page.evaluate("async (graph) => await window.app.loadGraphData(graph)", graph)
    editor.settle()
    editor.page.wait_for_function(f"() => ({STRIP})().includes('of 25 steps')")
    widgets = "() => window.app.rootGraph.nodes[0].widgets.map((widget) => widget.name)"
    assert {"text", "preset", "steps", "cfg", "seed", "ckpt_name"} <= set(editor.page.evaluate(widgets))
    change = """() => {
      const host = window.app.rootGraph.nodes[0];
      const widget = host.widgets.find((one) => one.name === 'steps');
      widget.value = 30;
      widget.callback?.(30);
      window.comfyAPI.api.api.dispatchEvent(new CustomEvent('graphChanged'));
    }"""
    editor.page.evaluate(change)
    editor.page.wait_for_function(f"() => ({STRIP})().includes('of 30 steps')")
    prompt = editor.page.evaluate("async () => (await window.app.graphToPrompt()).output")
    kinds = {node["class_type"]: node["inputs"] for node in prompt.values()}
    assert kinds["KSampler"]["steps"] == 30
    assert kinds["KSampler"]["model"][0].split(":")[-1] in {
        key.split(":")[-1] for key, node in prompt.items() if node["class_type"] == "TGATEApply"
    }
