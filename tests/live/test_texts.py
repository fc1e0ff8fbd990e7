"""What a real server hands the editor of the pack's texts: names and tooltips, help pages and their pictures."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tgate_dev.server import Server

REPO = Path(__file__).resolve().parents[2]
PACK_NAME = "comfyui-tgate-nodes"
DOCS = REPO / "web" / "docs"
LANGUAGES = ("en", "zh")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nodes(object_info: dict[str, Any]) -> list[str]:
    return [name for name, info in object_info.items() if PACK_NAME in info["python_module"]]


def answer(server: Server, path: str) -> tuple[str, bytes]:
    """Type and content of what the editor gets from the folder of help pages."""
    with urllib.request.urlopen(f"{server.address}/extensions/{PACK_NAME}/docs/{path}") as response:
        return response.headers.get_content_type(), response.read()


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_and_tooltips_are_served(server: Server, nodes: list[str], language: str) -> None:
    served = server.get_json("/i18n")[language]["nodeDefs"]
    written = json.loads((REPO / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
    assert {name: served[name] for name in nodes} == written


def test_help_of_every_node_is_served_where_the_editor_looks(server: Server, nodes: list[str]) -> None:
    """First in the editor's language, `<node>/<language>.md`, then without one, `<node>.md`; never as a web page."""
    assert len(nodes) == len(list(DOCS.glob("*.md"))) == len(list(DOCS.glob("*/zh.md")))
    for name in nodes:
        for page in (f"{name}.md", f"{name}/zh.md"):
            kind, content = answer(server, page)
            assert kind != "text/html"
            assert content == (DOCS / page).read_bytes()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            answer(server, f"{name}/en.md")


def test_pictures_are_served_as_pictures(server: Server) -> None:
    pictures = list((DOCS / "images").iterdir())
    assert pictures
    for picture in pictures:
        kind, content = answer(server, f"images/{picture.name}")
        assert kind == ("image/svg+xml" if picture.suffix == ".svg" else "image/png")
        assert content == picture.read_bytes()
