"""Runs that are really queued, from the editor, on a small model with random weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from strip_editor import StripEditor

from tgate_dev.editor import text_to_picture
from tgate_dev.server import Server

GATE = "TGATEApply"
STEPS = 10
SIDE = 64
RUN_SECONDS = 90.0

pytestmark = pytest.mark.slow


@pytest.fixture
def other_window(server: Server, browser: Browser) -> Iterator[StripEditor]:
    """Another window of the same browser's, with an editor of its own."""
    page = browser.new_page(viewport={"width": 800, "height": 500})
    yield StripEditor(page, server.address).open()
    page.close()


def queue(editor: StripEditor) -> None:
    editor.page.get_by_test_id("queue-button").click()


def test_a_run_reports_to_its_node(editor: StripEditor, other_window: StripEditor, checkpoint: Path) -> None:
    for window in (other_window, editor):
        window.build(*text_to_picture(checkpoint.name, STEPS, SIDE, seed=1))
        assert "As for SDXL" in window.wait_for_strip(GATE, f"Plan gate after 4 of {STEPS} steps").caption
    queue(editor)
    strip = editor.wait_for_strip(GATE, "Last run", RUN_SECONDS)
    # The small model is of the SD 1.5 family, whose gate is earlier.
    assert strip.title == f"gate after 2 of {STEPS} steps"
    assert len(strip.bars) == STEPS
    assert strip.gate == 2
    assert strip.bars[0]["label"] == f"Step 1 of {STEPS}: planning; both guidance passes"
    assert strip.bars[-1]["label"] == f"Step {STEPS} of {STEPS}: fidelity; cross-attention frozen; one pass"
    assert "attentions reused" in strip.caption
    assert other_window.read_strip(GATE).tag == "Plan"
    assert other_window.complaints == []

    # From now on the plan is that of the model.
    editor.on_node("KSampler", "(node) => { node.widgets.find((w) => w.name === 'steps').value = 20; }")
    editor.on_node(GATE, "(node) => node.onConnectionsChange()")
    plan = editor.wait_for_strip(GATE, "Plan gate after 4 of 20 steps")
    assert plan.caption.startswith("Model: SD 1.5.")


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
