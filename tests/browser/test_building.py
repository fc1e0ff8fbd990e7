"""A graph built by hand: a node dragged from the library, connected, set, and looked up in the help."""

from __future__ import annotations

import pytest
from strip_editor import StripEditor

from tgate_dev.editor import sampled

ARROW = 25  # from the right end of a widget drawn on the canvas
INCREASE = "(node) => [node.pos[0] + node.size[0] - %d, node.pos[1] + node.widgets.find((w) => w.name === '%s').y + 10]"

pytestmark = pytest.mark.slow


def click_arrow(editor: StripEditor, kind: str, widget: str) -> None:
    """Click the right arrow of a widget drawn on the canvas: the next choice, or one more."""
    editor.page.mouse.click(*editor.place_of(kind, INCREASE % (ARROW, widget)))
    editor.settle()


def titles(editor: StripEditor) -> list[str]:
    return [str(title) for title in editor.page.evaluate("() => window.app.rootGraph.nodes.map((node) => node.title)")]


def test_node_is_dragged_from_the_library_and_connected(editor: StripEditor) -> None:
    editor.build({"sampler": ("KSampler", {"steps": 40})}, [])
    editor.look_at("KSampler", left=1000, top=250)
    page = editor.page
    page.keyboard.press("n")
    page.get_by_placeholder("Search...").fill("T-GATE")
    found = page.locator("[draggable=true]").filter(has_text="TGATE Apply").first
    found.drag_to(page.locator("#graph-canvas"), target_position={"x": 520, "y": 240})
    page.keyboard.press("n")
    assert "TGATE Apply" in titles(editor)
    assert "No sampler connected" in editor.wait_for_strip("TGATEApply", "of 25 steps").caption

    page.mouse.move(*editor.place_of("TGATEApply", "(node) => node.getOutputPos(0)"))
    page.mouse.down()
    page.mouse.move(*editor.place_of("KSampler", "(node) => node.getInputPos(0)"), steps=8)
    page.mouse.up()
    strip = editor.wait_for_strip("TGATEApply", "16 of 40 steps predicted")
    assert len(strip.bars) == 40
    assert "No sampler" not in strip.caption


def test_strip_follows_widgets_that_are_clicked(editor: StripEditor) -> None:
    editor.build(*sampled("TGATEApply", {"preset": "balanced"}, steps=25))
    strip = editor.wait_for_strip("TGATEApply", "10 of 25 steps predicted")
    assert any("predicted" in bar["looks"] for bar in strip.bars)
    click_arrow(editor, "TGATEApply", "preset")
    editor.wait_for_strip("TGATEApply", "7 of 25 steps predicted")  # gentle
    click_arrow(editor, "TGATEApply", "preset")
    editor.wait_for_strip("TGATEApply", "gate after 20 of 25 steps")
    # A widget of another node.
    click_arrow(editor, "KSampler", "steps")
    editor.wait_for_strip("TGATEApply", "of 26 steps")


def test_strip_follows_widgets_made_of_html(editor: StripEditor) -> None:
    editor.set("Comfy.VueNodes.Enabled", True)
    try:
        editor.build(*sampled("TGATEApply", {"preset": "balanced"}, steps=25))
        editor.wait_for_strip("TGATEApply", "10 of 25 steps predicted")
        page = editor.page
        page.locator(".lg-node").filter(has_text="TGATE Apply").get_by_role("combobox").click()
        page.get_by_role("option", name="fast").click()
        editor.wait_for_strip("TGATEApply", "gate after 20 of 25 steps")
        sampler = page.locator(".lg-node").filter(has_text="KSampler")
        steps = sampler.get_by_test_id("node-widget").filter(has_text="steps")
        steps.get_by_test_id("increment").click()
        editor.wait_for_strip("TGATEApply", "of 26 steps")
        assert page.locator(".lg-node .tgate-schedule").is_visible()
    finally:
        editor.set("Comfy.VueNodes.Enabled", False)


def test_undo_brings_the_schedule_back(editor: StripEditor) -> None:
    editor.build(*sampled("TGATEApplyAdvanced", {"protect_last": 0}, steps=20))
    editor.wait_for_strip("TGATEApplyAdvanced", "of 20 steps")
    editor.page.keyboard.press("Escape")
    click_arrow(editor, "TGATEApplyAdvanced", "protect_last")
    editor.wait_until("TGATEApplyAdvanced", lambda strip: any("protected" in bar["looks"] for bar in strip.bars[-1:]))
    editor.page.keyboard.press("Control+z")
    # The node is made anew: for a moment there is no bar.
    editor.wait_until("TGATEApplyAdvanced", lambda strip: [bar["looks"] for bar in strip.bars[-1:]] == [["fidelity"]])


@pytest.mark.parametrize(
    ("kind", "words"),
    [("TGATEApply", "as published"), ("TGATEApplyAdvanced", "sp_interval"), ("TGATEDeepCache", "cache_interval")],
)
def test_help_opens_with_our_text(editor: StripEditor, kind: str, words: str) -> None:
    editor.build({"gate": (kind, {})}, [])
    editor.look_at(kind, left=300, top=250)
    editor.on_node(kind, "(node) => window.app.canvas.selectNode(node)")
    page = editor.page
    page.get_by_test_id("info-button").first.click()
    text = page.locator(".node-help-content")
    text.filter(has_text=words).wait_for()
    # The host's own description of a node without a page has no headings of its own.
    assert text.get_by_role("heading", name="Use").count() + text.get_by_role("heading", name="Inputs").count() >= 1
    editor.set("Comfy.RightSidePanel.IsOpen", False)


def test_no_key_opens_the_help(editor: StripEditor) -> None:
    """But the button in the bar above a selected node does."""
    editor.build({"gate": ("TGATEApply", {})}, [])
    editor.look_at("TGATEApply", left=300, top=250)
    editor.on_node("TGATEApply", "(node) => window.app.canvas.selectNode(node)")
    page = editor.page
    page.locator("#graph-canvas").focus()
    for key in ("i", "?", "F1"):
        page.keyboard.press(key)
        editor.settle()
    assert page.locator(".node-help-content").count() == 0
    page.get_by_test_id("info-button").first.click()
    page.locator(".node-help-content").filter(has_text="as published").wait_for()
    editor.set("Comfy.RightSidePanel.IsOpen", False)
