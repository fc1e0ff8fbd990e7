"""One real ComfyUI server, with the pack installed as a custom node, for all tests of this folder."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tgate_dev.server import PACK_NAME, Server

REPO = Path(__file__).resolve().parents[2]
TEST_NODES = REPO / "tests" / "support" / "server_nodes"
WORKFLOWS = sorted((REPO / "workflows").glob("*.json"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    # pytest keeps its temporary folders for a while, and with them the server's log.
    folder = tmp_path_factory.mktemp("server")
    packs = {PACK_NAME: REPO, "tgate-test-nodes": TEST_NODES}
    with Server(Path(sys.executable), Path(os.environ["TGATE_COMFYUI"]), folder, packs) as running:
        yield running


@pytest.fixture(scope="session")
def object_info(server: Server) -> dict[str, Any]:
    return server.get_json("/object_info")


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def workflow(request: pytest.FixtureRequest) -> dict[str, Any]:
    return json.loads(request.param.read_text(encoding="utf-8"))


@pytest.fixture
def sd15() -> dict[str, Any]:
    return json.loads((REPO / "workflows" / "2 Picture - SD 1.5.json").read_text(encoding="utf-8"))


@pytest.fixture
def sdxl() -> dict[str, Any]:
    return json.loads((REPO / "workflows" / "2 Picture - SDXL.json").read_text(encoding="utf-8"))
