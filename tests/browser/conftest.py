"""One real server and one real browser for all tests of this folder; a picture of the editor after each of them.

A second server, with the newest editor, is there for the tests that are marked `BOTH_FRONTENDS`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from strip_editor import NEWEST, SHIPPED, StripEditor

from tgate_dev.browser import running_browser
from tgate_dev.editor import write_settings
from tgate_dev.environment import CPU_TENSOR_WORK, Environment
from tgate_dev.frontend import ready_frontend
from tgate_dev.scenes.checkpoint import ready_checkpoint
from tgate_dev.server import Server

VIEW = {"width": 1400, "height": 900}


@pytest.fixture(scope="package")
def checkpoint() -> Path:
    """The checkpoint of the demo."""
    environment = Environment(Path(sys.executable), Path(os.environ["TGATE_COMFYUI"]), "")
    return ready_checkpoint(environment)


def started(folder: Path, checkpoint: Path, *arguments: str) -> Server:
    """A server to be started with these arguments."""
    server = Server(
        Path(sys.executable),
        Path(os.environ["TGATE_COMFYUI"]),
        folder,
        model_folders={"checkpoints": [checkpoint.parent]},
        arguments=("--cpu", *arguments),
        variables={**os.environ, **CPU_TENSOR_WORK},
    )
    write_settings(server)
    return server


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Iterator[Server]:
    with started(tmp_path_factory.mktemp("browser"), checkpoint) as running:
        yield running


@pytest.fixture(scope="package")
def newest_server(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Iterator[Server]:
    """One with the newest editor."""
    folder = tmp_path_factory.mktemp("newest")
    with started(folder, checkpoint, "--front-end-root", str(ready_frontend())) as running:
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


@pytest.fixture(scope="package")
def newest_editor(newest_server: Server, browser: Browser) -> Iterator[StripEditor]:
    page = browser.new_page(viewport=VIEW)  # type: ignore[arg-type]
    yield StripEditor(page, newest_server.address).open()
    page.close()


@pytest.fixture
def editor(request: pytest.FixtureRequest) -> Iterator[StripEditor]:
    """The editor as it was left; whatever it complains of fails the test. See `BOTH_FRONTENDS`."""
    is_newest = getattr(request, "param", SHIPPED) == NEWEST
    shared: StripEditor = request.getfixturevalue("newest_editor" if is_newest else "shared_editor")
    shared.complaints.clear()
    yield shared
    assert shared.complaints == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """A picture after each test, before its fixtures put back how the editor looks."""
    try:
        return (yield)
    finally:
        editor = item.funcargs.get("editor") if isinstance(item, pytest.Function) else None
        if isinstance(editor, StripEditor):
            editor.keep_screenshot(item.name)
