"""What a person sees of `workflows/1 Start here.json`, on nodes that are drawn and on those made of HTML."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from strip_editor import StripEditor

REPO = Path(__file__).resolve().parents[2]
GATE, REPORT = "TGATEApply", "TGATEReport"
RUN_SECONDS = 180.0
SETTING = "Comfy.VueNodes.Enabled"
# The checkpoint that there is, and small pictures.
FIT = """(checkpoint) => {
  const set = (kind, name, value) => {
    const node = window.app.rootGraph.nodes.find((one) => one.type === kind);
    node.widgets.find((widget) => widget.name === name).value = value;
  };
  set('CheckpointLoaderSimple', 'ckpt_name', checkpoint);
  set('EmptyLatentImage', 'width', 64);
  set('EmptyLatentImage', 'height', 64);
  set('PrimitiveInt', 'value', Math.floor(Math.random() * 1e6));
}"""
PICTURES = "(node) => (window.app.nodeOutputs[String(node.id)]?.images ?? []).length"

pytestmark = pytest.mark.slow


@pytest.fixture(params=[False, True], ids=["canvas", "html"])
def opened(request: pytest.FixtureRequest, editor: StripEditor, checkpoint: Path) -> Iterator[StripEditor]:
    editor.set(SETTING, request.param)
    graph = json.loads((REPO / "workflows" / "1 Start here.json").read_text(encoding="utf-8"))
    editor.page.evaluate("async (graph) => await window.app.loadGraphData(graph)", graph)
    editor.settle()
    editor.page.evaluate(FIT, checkpoint.name)
    yield editor
    editor.set(SETTING, False)


def test_one_run_shows_both_pictures_and_both_times(opened: StripEditor) -> None:
    assert "about −" in opened.wait_for_strip(GATE, "Plan").saving
    opened.page.get_by_test_id("queue-button").click()
    strip = opened.wait_until(GATE, lambda strip: "plain" in strip.saving and strip.tag == "Last run", RUN_SECONDS)
    assert "% work" in strip.saving
    for kind in ("SaveImage", REPORT):
        shown = f"([kind]) => ({PICTURES})(window.app.rootGraph.nodes.find((node) => node.type === kind)) > 0"
        opened.page.wait_for_function(shown, arg=[kind], timeout=1000 * RUN_SECONDS)
    opened.page.wait_for_timeout(2000)
    opened.look_at(REPORT, left=500, top=200)
