"""Help pages with their pictures, and the nodes' names, as the editor shows them in both languages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from strip_editor import StripEditor

REPO = Path(__file__).resolve().parents[2]
DOCS = REPO / "web" / "docs"
TEXTS: dict[str, Any] = {
    language: json.loads((REPO / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
    for language in ("en", "zh")
}
# As people read it: what stands on a new node, and on its inputs and outputs. It is not put into the graph: the host
# remembers the labels of widgets by their node's id, and numbers nodes anew when the language changes.
READ_NAMES = """(kind) => {
  const node = window.LiteGraph.createNode(kind);
  const shown = (one) => one.label ?? one.localized_name ?? one.name;
  const widgets = (node.widgets ?? []).filter((widget) => widget.name !== 'tgate_schedule');
  const slots = [...node.inputs.filter((input) => !input.widget), ...widgets];
  const byName = (list) => Object.fromEntries(list.map((one) => [one.name, shown(one)]));
  return { title: node.title, inputs: byName(slots), outputs: node.outputs.map(shown) };
}"""
ALL_LOADED = """() => {
  const pictures = [...document.querySelectorAll('.node-help-content img')];
  return pictures.length > 0 && pictures.every((picture) => picture.complete && picture.naturalWidth > 0);
}"""


@pytest.fixture(scope="module", params=("en", "zh"))
def language(request: pytest.FixtureRequest, shared_editor: StripEditor) -> Iterator[str]:
    speak(shared_editor, request.param)
    yield request.param
    if request.param != "en":
        speak(shared_editor, "en")


def speak(editor: StripEditor, language: str) -> None:
    """Change the editor's language and open it anew: it may read the nodes' names before it has the language's."""
    editor.set("Comfy.Locale", language)
    editor.open()
    title = "([kind, title]) => window.LiteGraph.createNode(kind)?.title === title"
    editor.page.wait_for_function(title, arg=["TGATEApply", TEXTS[language]["TGATEApply"]["display_name"]])


def test_every_help_page_is_shown_with_its_pictures(language: str, editor: StripEditor) -> None:
    page = editor.page
    try:
        for kind in TEXTS["en"]:
            file = DOCS / f"{kind}.md" if language == "en" else DOCS / kind / f"{language}.md"
            title, *_ = file.read_text(encoding="utf-8").splitlines()
            editor.build({"one": (kind, {})}, [])
            editor.look_at(kind, left=300, top=250)
            editor.on_node(kind, "(node) => window.app.canvas.selectNode(node)")
            page.get_by_test_id("info-button").first.click()
            content = page.locator(".node-help-content")
            content.get_by_role("heading", name=title.removeprefix("# "), exact=True).first.wait_for()
            page.wait_for_function(ALL_LOADED)
            # A table or bold word that was not understood would stand there as it was typed.
            assert "**" not in content.inner_text()
            assert "| ---" not in content.inner_text()
            editor.set("Comfy.RightSidePanel.IsOpen", False)
    finally:
        editor.set("Comfy.RightSidePanel.IsOpen", False)


def test_nodes_inputs_and_outputs_have_their_names(language: str, editor: StripEditor) -> None:
    for kind, texts in TEXTS[language].items():
        assert editor.page.evaluate(READ_NAMES, kind) == {
            "title": texts["display_name"],
            "inputs": {key: text["name"] for key, text in texts["inputs"].items()},
            "outputs": [text["name"] for text in texts["outputs"].values()],
        }
