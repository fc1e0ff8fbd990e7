"""Runs that are really queued, from the editor, on a small model with random weights."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from strip_editor import Strip, StripEditor

from tgate_dev.editor import text_to_picture
from tgate_dev.server import Server

GATE = "TGATEApply"
STEPS = 10
SIDE = 64
RUN_SECONDS = 90.0
# Which step is marked, each time that changes; -1 for none.
WATCH_MARKS = """(node) => {
  window.tgateMarks = [];
  const root = node.widgets.find((widget) => widget.name === 'tgate_schedule').element.shadowRoot;
  const look = () => {
    const mark = [...root.querySelectorAll('.cell')].findIndex((cell) => cell.classList.contains('working'));
    if (mark !== window.tgateMarks.at(-1)) window.tgateMarks.push(mark);
  };
  new MutationObserver(look).observe(root, { subtree: true, childList: true, attributeFilter: ['class'] });
}"""

pytestmark = pytest.mark.slow


@pytest.fixture
def other_window(server: Server, browser: Browser) -> Iterator[StripEditor]:
    """Another window of the same browser's, with an editor of its own."""
    page = browser.new_page(viewport={"width": 800, "height": 500})
    yield StripEditor(page, server.address).open()
    page.close()


def queue(editor: StripEditor) -> None:
    editor.page.get_by_test_id("queue-button").click()


def bypass(editor: StripEditor, is_off: bool) -> None:
    editor.on_node(GATE, "(node, mode) => { node.mode = mode; node.onConnectionsChange(); }", 4 if is_off else 0)


def set_widget(editor: StripEditor, kind: str, widget: str, value: int, is_timed: bool) -> Strip:
    """The plan once it is for this value, and has the plain seconds or has them no more."""
    set_it = "(node, name, value) => { node.widgets.find((w) => w.name === name).value = value; }"
    editor.on_node(kind, set_it, widget, value)
    editor.on_node(GATE, "(node) => node.onConnectionsChange()")
    editor.page.wait_for_timeout(1000)
    return editor.wait_until(GATE, lambda strip: strip.tag == "Plan" and ("plain" in strip.saving) == is_timed)


def test_a_run_reports_to_its_node(editor: StripEditor, other_window: StripEditor, checkpoint: Path) -> None:
    for window in (other_window, editor):
        window.build(*text_to_picture(checkpoint.name, STEPS, SIDE, seed=1))
        # The small model is of the SD 1.5 family: its file says so.
        plan = window.wait_for_strip(GATE, f"Plan 4 of {STEPS} steps predicted")
        assert plan.caption.startswith("Model: SD 1.5.")
        assert plan.saving.startswith("about −")
    queue(editor)
    strip = editor.wait_for_strip(GATE, "Last run", RUN_SECONDS)
    assert strip.title == plan.title
    assert [bar["looks"] for bar in strip.bars] == [bar["looks"] for bar in plan.bars]
    assert len(strip.bars) == STEPS
    assert strip.gate == -1
    assert strip.bars[0]["label"] == f"Step 1 of {STEPS}: computed; both guidance passes"
    # The bars show which steps.
    assert "predicted: " in strip.details
    assert strip.caption == "Taller bars compute more."
    # Nothing was planned for a gate, and nothing kept.
    assert strip.legend == plan.legend == "computedpredicted"
    assert "cache peak" not in strip.details
    assert not strip.is_cut
    assert re.fullmatch(r"−\d+ % work · \d+\.\d s", strip.saving)
    assert other_window.read_strip(GATE).tag == "Plan"
    assert other_window.complaints == []


def test_a_run_that_holds_guidance_shows_its_gate(editor: StripEditor, checkpoint: Path) -> None:
    """With a sampler whose steps cannot be predicted."""
    editor.build(*text_to_picture(checkpoint.name, STEPS, SIDE, seed=1))
    editor.on_node("KSampler", "(node) => { node.widgets.find((w) => w.name === 'sampler_name').value = 'dpm_2'; }")
    editor.on_node(GATE, "(node) => node.onConnectionsChange()")
    plan = editor.wait_for_strip(GATE, f"Plan gate after 1 of {STEPS} steps")
    queue(editor)
    strip = editor.wait_for_strip(GATE, "Last run", RUN_SECONDS)
    assert strip.title == plan.title
    assert strip.gate == 1
    assert [bar["looks"] for bar in strip.bars] == [bar["looks"] for bar in plan.bars]
    assert strip.bars[-1]["label"] == f"Step {STEPS} of {STEPS}: gated; cross-attention frozen; one pass"
    assert "attentions reused" in strip.caption
    assert "refreshed at" in strip.details
    assert "refreshed at" not in strip.caption


def test_a_plain_run_is_remembered_and_told(editor: StripEditor, checkpoint: Path, server: Server) -> None:
    editor.build(*text_to_picture(checkpoint.name, STEPS, SIDE, seed=3))
    editor.wait_for_strip(GATE, "Plan")
    editor.on_node(GATE, WATCH_MARKS)
    bypass(editor, True)
    queue(editor)
    off = editor.wait_until(GATE, lambda strip: "plain" in strip.saving, RUN_SECONDS)
    assert off.caption.startswith("Bypassed")
    bypass(editor, False)
    plan = editor.wait_for_strip(GATE, "Plan")
    assert re.fullmatch(r"about −\d+ % work · plain \d+\.\d s", plan.saving)
    # Another seed and prompt take as long, another number of steps does not.
    set_widget(editor, "KSampler", "steps", STEPS + 1, is_timed=False)
    set_widget(editor, "KSampler", "steps", STEPS, is_timed=True)
    set_widget(editor, "KSampler", "seed", 4, is_timed=True)
    queue(editor)
    strip = editor.wait_for_strip(GATE, "Last run", RUN_SECONDS)
    plain = plan.saving.rpartition(" · ")[2]
    assert re.fullmatch(rf"−\d+ % work · \d+\.\d s \({plain}\)", strip.saving)
    assert not strip.is_cut
    assert re.search(r"TGATE: \d+\.\d × as fast as the plain run before", server.written())
    # The steps at work were marked one after another, and none is any more.
    marks = editor.page.evaluate("() => window.tgateMarks")
    seen = [mark for mark in marks if mark >= 0]
    assert len(set(seen)) >= 3  # steps that are predicted take no time
    assert seen == sorted(seen)
    assert marks[-1] == -1
    # Nothing of it stays in the graph.
    assert "tgate" not in editor.page.evaluate("() => window.app.rootGraph.serialize().extra ?? {}")


def test_the_log_line_can_be_switched_off(editor: StripEditor, checkpoint: Path, server: Server) -> None:
    editor.build(*text_to_picture(checkpoint.name, STEPS, SIDE, seed=5))
    editor.wait_for_strip(GATE, "Plan")
    editor.set("TGATE.LogLine", False)
    try:
        before = server.written().count("TGATE: ")
        queue(editor)
        editor.wait_for_strip(GATE, "Last run", RUN_SECONDS)
        assert server.written().count("TGATE: ") == before
    finally:
        editor.set("TGATE.LogLine", True)


def test_a_run_of_a_graph_in_another_tab_is_not_shown_in_this_one(editor: StripEditor, checkpoint: Path) -> None:
    ids = editor.build(*text_to_picture(checkpoint.name, STEPS, SIDE, seed=2))
    editor.wait_for_strip(GATE, "Plan")
    heard = """() => {
      window.tgateRuns = [];
      window.comfyAPI.api.api.addEventListener('tgate.run', (event) => window.tgateRuns.push(event.detail));
    }"""
    editor.page.evaluate(heard)
    queue(editor)
    # The same nodes under the same ids, as another graph.
    copy = "() => window.app.loadGraphData({ ...window.app.rootGraph.serialize(), id: crypto.randomUUID() })"
    editor.page.evaluate(copy)
    editor.page.wait_for_function("() => window.tgateRuns.length > 0", timeout=1000 * RUN_SECONDS)
    [detail] = editor.page.evaluate("() => window.tgateRuns")
    assert detail["node_id"] == ids["gate"]
    assert editor.on_node(GATE, "(node) => String(node.id)") == ids["gate"]
    editor.page.wait_for_timeout(500)
    assert editor.wait_for_strip(GATE, "Plan").tag == "Plan"
