"""The registry's archive in a fresh ComfyUI: the same nodes, pages, texts and templates as from a clone."""

from __future__ import annotations

import os
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from archive import unpacked_archive

from tgate_dev.server import Server

PACK_NAME = "comfyui-tgate-nodes"
NODES = 9

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose one custom node is the unpacked archive."""
    folder = tmp_path_factory.mktemp("installed")
    packs = {PACK_NAME: unpacked_archive(folder)}
    with Server(Path(sys.executable), Path(os.environ["TGATE_COMFYUI"]), folder, packs) as running:
        yield running


def our_nodes(server: Server) -> dict[str, Any]:
    information = server.get_json("/object_info")
    return {name: info for name, info in information.items() if PACK_NAME in info["python_module"]}


def our_scripts(server: Server) -> list[str]:
    return sorted(path for path in server.get_json("/extensions") if f"/{PACK_NAME}/" in path)


def page(server: Server, name: str) -> bytes:
    with urllib.request.urlopen(f"{server.address}/extensions/{PACK_NAME}/{name}") as answer:
        return bytes(answer.read())


def test_nodes_load(installed: Server, server: Server) -> None:
    nodes = our_nodes(installed)
    assert len(nodes) == NODES
    assert nodes == our_nodes(server)
    log = installed.written()
    assert "IMPORT FAILED" not in log
    assert "Unable to parse pyproject.toml" not in log


def test_pages_texts_and_templates_are_there(installed: Server, server: Server) -> None:
    assert our_scripts(installed) == our_scripts(server) != []
    assert installed.get_json("/workflow_templates")[PACK_NAME] == server.get_json("/workflow_templates")[PACK_NAME]
    texts = installed.get_json("/i18n")
    for language in ("en", "zh"):
        assert set(our_nodes(installed)) <= set(texts[language]["nodeDefs"])
    for name in our_nodes(installed):
        assert page(installed, f"docs/{name}.md") == page(server, f"docs/{name}.md")
    assert page(installed, "docs/images/report.png") == page(server, "docs/images/report.png")
