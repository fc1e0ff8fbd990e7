"""One real server and one real browser for all tests of this folder; a picture of the editor after each of them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from strip_editor import StripEditor

from tgate_dev.browser import running_browser
from tgate_dev.editor import write_settings
from tgate_dev.environment import CPU_TENSOR_WORK, Environment
from tgate_dev.scenes.checkpoint import ready_checkpoint
from tgate_dev.server import Server

REPO = Path(__file__).resolve().parents[2]
SCREENSHOTS = REPO / "test-output" / "screenshots"
VIEW = {"width": 1400, "height": 900}


@pytest.fixture(scope="package")
def checkpoint() -> Path:
    """The checkpoint of the demo."""
    environment = Environment(Path(sys.executable), Path(os.environ["TGATE_COMFYUI"]), "")
    return ready_checkpoint(environment)


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("browser")
    running = Server(
        Path(sys.executable),
        Path(os.environ["TGATE_COMFYUI"]),
        folder,
        model_folders={"checkpoints": [checkpoint.parent]},
        variables={**os.environ, **CPU_TENSOR_WORK},
    )
    write_settings(running)
    with running:
        yield running


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser


@pytest.fixture(scope="package")
def shared_editor(server: Server, browser: Browser) -> Iterator[StripEditor]:
    page = browser.new_page(viewport=VIEW)  # type: ignore[arg-type]
    yield StripEditor(page, server.address).open()
    page.close()


@pytest.fixture
def editor(shared_editor: StripEditor, request: pytest.FixtureRequest) -> Iterator[StripEditor]:
    """The editor as it was left; whatever it complains of fails the test."""
    shared_editor.complaints.clear()
    yield shared_editor
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^\w-]+", "-", request.node.name).strip("-")
    shared_editor.page.screenshot(path=SCREENSHOTS / f"{name}.png")
    assert shared_editor.complaints == []
