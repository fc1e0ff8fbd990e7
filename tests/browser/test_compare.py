"""What a person sees of graphs that show what a run did: both pictures, the report, and how attention converges.

Each is run once in each of the two editors, and looked at as nodes are drawn and as they are made of HTML, dark and
light.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from strip_editor import BOTH_FRONTENDS, LOOKS, StripEditor

REPO = Path(__file__).resolve().parents[2]
GATE, ADVANCED, REPORT, PLOT = "TGATEApply", "TGATEApplyAdvanced", "TGATEReport", "TGATEConvergencePlot"
RUN_SECONDS = 180.0
# The checkpoint that there is, small pictures, few steps, and another seed each time: the server runs no graph twice.
FIT = """(checkpoint) => {
  const set = (name, value) => {
    for (const node of window.app.rootGraph.nodes) {
      const widget = node.widgets?.find((one) => one.name === name);
      if (widget) widget.value = value;
    }
  };
  const seed = Math.floor(Math.random() * 1e6);
  const values = { ckpt_name: checkpoint, width: 64, height: 64, seed, steps: 9 };
  for (const [name, value] of Object.entries(values)) set(name, value);
  for (const node of window.app.rootGraph.nodes) if (node.type === 'PrimitiveInt') node.widgets[0].value = seed;
}"""
# Pictures that are really painted, on the canvas and as HTML.
DRAWN = "(node) => (node.imgs ?? []).filter((one) => one.complete && one.naturalWidth > 0).length"
PAINTED = """([title]) => [...document.querySelectorAll('.lg-node')]
  .filter((node) => node.textContent.includes(title))
  .flatMap((node) => [...node.querySelectorAll('img')])
  .some((one) => one.complete && one.naturalWidth > 0 && one.getBoundingClientRect().width > 200)"""

pytestmark = pytest.mark.slow


@pytest.fixture
def opened(editor: StripEditor) -> Iterator[StripEditor]:
    yield editor
    editor.dress(*LOOKS[0])


def open_and_run(editor: StripEditor, workflow: str, checkpoint: Path) -> None:
    graph = json.loads((REPO / "workflows" / f"{workflow}.json").read_text(encoding="utf-8"))
    editor.page.evaluate("async (graph) => await window.app.loadGraphData(graph)", graph)
    editor.settle()
    editor.page.evaluate(FIT, checkpoint.name)
    editor.page.get_by_test_id("queue-button").click()


def check_pictures(editor: StripEditor, name: str, *kinds: str) -> None:
    """Each of these nodes has its picture in every look."""
    for is_html, palette in LOOKS:
        editor.dress(is_html, palette)
        for kind in kinds:
            editor.look_at(kind, left=500, top=150)
            if is_html:
                title = editor.on_node(kind, "(node) => node.title")
                editor.page.wait_for_function(PAINTED, arg=[title])
            else:
                there = f"([kind]) => ({DRAWN})(window.app.rootGraph.nodes.find((node) => node.type === kind)) > 0"
                editor.page.wait_for_function(there, arg=[kind])
            editor.keep_screenshot(f"{name}-{kind}-{'html' if is_html else 'canvas'}-{palette}")


@BOTH_FRONTENDS
def test_one_run_shows_both_pictures_and_both_times(
    opened: StripEditor, checkpoint: Path, request: pytest.FixtureRequest
) -> None:
    open_and_run(opened, "1 Start here", checkpoint)
    opened.wait_for_strip(GATE, "Plan")
    strip = opened.wait_until(GATE, lambda strip: "plain" in strip.saving and strip.tag == "Last run", RUN_SECONDS)
    assert "% work" in strip.saving
    wait_for_end(opened, REPORT)
    check_pictures(opened, request.node.name, "SaveImage", REPORT)


@BOTH_FRONTENDS
def test_report_and_plot_draw_themselves(opened: StripEditor, checkpoint: Path, request: pytest.FixtureRequest) -> None:
    open_and_run(opened, "5 More - Find your gate", checkpoint)
    opened.wait_for_strip(ADVANCED, "Last run", RUN_SECONDS)
    wait_for_end(opened, REPORT)
    check_pictures(opened, request.node.name, PLOT, REPORT)


def wait_for_end(editor: StripEditor, kind: str) -> None:
    there = """([kind]) => {
      const node = window.app.rootGraph.nodes.find((one) => one.type === kind);
      return (window.app.nodeOutputs[String(node.id)]?.images ?? []).length > 0;
    }"""
    editor.page.wait_for_function(there, arg=[kind], timeout=1000 * RUN_SECONDS)
    editor.page.get_by_text("0 active").wait_for(timeout=1000 * RUN_SECONDS)
