"""Which browser is started, and what is said where there is none. Nothing here starts a real one."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Error

from tgate_dev import browser
from tgate_dev.errors import UserError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the stand-ins for programs are shell scripts")


class Chromium:
    """What Playwright starts: those browsers of which `starting` has the path or the name, which it returns."""

    def __init__(self, starting: Collection[str]) -> None:
        self.starting = starting

    def launch(self, executable_path: str = "", channel: str = "") -> Any:
        chosen = executable_path or channel or "Playwright's own"
        if chosen not in self.starting:
            raise Error(f"{chosen} does not start")
        return chosen


def program(folder: Path, name: str, code: int = 0) -> Path:
    """A program that ends with this exit code."""
    path = folder / name
    path.write_text(f"#!{sys.executable}\nraise SystemExit({code})\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the path; nothing can be fetched from the network."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(browser, "_playwright_installs", lambda: False)
    return tmp_path


def test_the_first_that_starts_is_taken(folder: Path) -> None:
    broken, works = program(folder, "chromium"), program(folder, "google-chrome")
    for starting in ({str(broken), str(works)}, {str(works), "chrome"}, {"chrome", "msedge"}, {"Playwright's own"}):
        expected = next(one for one in (str(broken), str(works), "chrome", "Playwright's own") if one in starting)
        assert browser.launched(Chromium(starting), os.environ) == expected  # type: ignore[arg-type]


def test_the_users_choice_comes_first(folder: Path) -> None:
    known = str(program(folder, "chromium"))
    variables = {**os.environ, browser.CHOICE: "/mine"}
    assert browser.launched(Chromium({known, "/mine"}), variables) == "/mine"  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"TGATE_BROWSER is /mine, which does not start"):
        browser.launched(Chromium({known}), variables)  # type: ignore[arg-type]


def test_without_any_the_text_says_how_to_get_one(folder: Path) -> None:
    with pytest.raises(UserError, match=r"install Chromium or Chrome .*apt-get install chromium.*TGATE_BROWSER"):
        browser.launched(Chromium(()), os.environ)  # type: ignore[arg-type]


def test_packages_are_installed_by_root_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(folder, "apt-get")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert not browser.install_packages("chromium")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert browser.install_packages("chromium")
    program(folder, "apt-get", code=100)
    assert not browser.install_packages("chromium")
