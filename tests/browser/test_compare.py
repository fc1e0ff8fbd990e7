"""What the note of `workflows/compare.json` says of Compare Images, the host's own node."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from strip_editor import StripEditor

from tgate_dev.editor import Links, Nodes

NOTE_WORKFLOW = Path(__file__).resolve().parents[2] / "workflows" / "compare.json"
SIDE = 64
SETTING = "Comfy.VueNodes.Enabled"
SHOWN = """() => {
  const node = [...document.querySelectorAll('.lg-node')].find((one) => one.textContent.includes('Compare Images'));
  const pictures = [...(node?.querySelectorAll('img') ?? [])];
  return pictures.filter((picture) => picture.complete && picture.naturalWidth > 0).length;
}"""

pytestmark = pytest.mark.slow


@pytest.fixture
def compared(editor: StripEditor) -> Iterator[StripEditor]:
    """Two pictures that are compared."""
    nodes: Nodes = {
        "dark": ("EmptyImage", {"width": SIDE, "height": SIDE}),
        "light": ("EmptyImage", {"width": SIDE, "height": SIDE, "color": 0xFFFFFF}),
        "compare": ("ImageCompare", {}),
    }
    links: Links = [("dark", "IMAGE", "compare", "image_a"), ("light", "IMAGE", "compare", "image_b")]
    editor.set(SETTING, False)
    editor.build(nodes, links)
    yield editor
    editor.set(SETTING, False)


def note() -> str:
    graph: dict[str, Any] = json.loads(NOTE_WORKFLOW.read_text(encoding="utf-8"))
    return next(str(node["widgets_values"][0]) for node in graph["nodes"] if node["type"] == "MarkdownNote")


def drawn_words(editor: StripEditor) -> str:
    """What the node draws on the canvas."""
    return str(
        editor.on_node(
            "ImageCompare",
            """(node) => {
              const words = [], paint = document.createElement('canvas').getContext('2d');
              paint.fillText = (text) => words.push(text);
              for (const widget of node.widgets) widget.drawWidget?.(paint, { width: node.size[0], showText: true });
              return words.join(' ');
            }""",
        )
    )


def test_it_shows_nothing_on_drawn_nodes_and_the_note_says_what_it_needs(compared: StripEditor) -> None:
    """The day the host draws it there, the note can say less."""
    assert re.search(r"Nodes? 2\.0", drawn_words(compared))
    assert "needs *Nodes 2.0*" in note()
    compared.page.get_by_test_id("queue-button").click()
    compared.page.wait_for_timeout(3000)
    assert compared.page.evaluate(SHOWN) == 0


def test_it_shows_both_pictures_on_nodes_made_of_html(compared: StripEditor) -> None:
    compared.set(SETTING, True)
    compared.on_node("EmptyImage", f"(node) => {{ node.widgets.find((w) => w.name === 'batch_size').value = {2}; }}")
    compared.page.get_by_test_id("queue-button").click()
    compared.page.wait_for_function(f"() => ({SHOWN})() >= 2")


def test_the_menu_has_the_switch(compared: StripEditor) -> None:
    compared.page.locator(".comfy-menu-button-wrapper, .comfyui-logo").first.click()
    compared.page.get_by_text("Nodes 2.0").first.wait_for()
    compared.page.keyboard.press("Escape")
