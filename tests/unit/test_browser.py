"""How a browser is found, and what is said where there is none. Nothing here starts a real one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tgate_dev import browser
from tgate_dev.errors import UserError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the stand-ins for browsers are shell scripts")


def program(folder: Path, name: str, code: int = 0) -> Path:
    """A program that ends with this exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!{sys.executable}\nraise SystemExit({code})\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def nothing_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No browser on the path or in the usual places, none to be fetched or installed; returns the one folder on it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("TGATE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv(browser.CHOICE, raising=False)
    monkeypatch.setattr(browser, "PLACES", ())
    # Playwright's own browser comes from the network.
    monkeypatch.setattr(browser, "_fetched", lambda: None)
    return folder


def test_the_systems_own_is_taken(nothing_around: Path) -> None:
    found = program(nothing_around, "google-chrome")
    assert browser.ready_browser() == found


def test_one_that_does_not_start_is_passed_over(nothing_around: Path) -> None:
    program(nothing_around, "chromium", code=1)
    works = program(nothing_around, "google-chrome")
    assert browser.ready_browser() == works


def test_the_users_choice_comes_first(nothing_around: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(nothing_around, "chromium")
    chosen = program(tmp_path / "elsewhere", "browser")
    monkeypatch.setenv(browser.CHOICE, str(chosen))
    assert browser.ready_browser() == chosen


def test_a_choice_that_does_not_start_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(browser.CHOICE, str(tmp_path / "nothing"))
    with pytest.raises(UserError, match=r"TGATE_BROWSER is .*nothing, which does not start"):
        browser.ready_browser()


def test_without_any_the_text_says_how_to_get_one(nothing_around: Path) -> None:
    with pytest.raises(UserError, match=r"install Chromium or Chrome .*apt-get install chromium.*TGATE_BROWSER"):
        browser.ready_browser()


def test_packages_are_installed_by_root_alone(nothing_around: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(nothing_around, "apt-get")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert not browser.install_packages("chromium")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert browser.install_packages("chromium")
    program(nothing_around, "apt-get", code=100)
    assert not browser.install_packages("chromium")


def test_only_root_starts_without_a_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "--no-sandbox" not in browser.launch_flags()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "--no-sandbox" in browser.launch_flags()
