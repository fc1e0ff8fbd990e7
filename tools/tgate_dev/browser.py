"""A Chromium for the editor, started by Playwright: the system's own, or one that is installed for it.

Runs in the environment's python, which has Playwright.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from playwright.sync_api import Browser, BrowserType, Error, sync_playwright

from .errors import UserError
from .progress import say

# The path of the browser to use.
CHOICE = "TGATE_BROWSER"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Playwright knows where these are installed; its own comes last.
CHANNELS: tuple[dict[str, Any], ...] = ({"channel": "chrome"}, {"channel": "msedge"}, {})
INSTALL_SECONDS = 600
# Small, and has what the Chinese editor shows.
CHINESE_FONT = "fonts-wqy-microhei"


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A browser without a window.

    Raises:
        UserError: none starts, and none can be installed; the text says how to get one.
    """
    with sync_playwright() as playwright:
        browser = launched(playwright.chromium, os.environ)
        try:
            yield browser
        finally:
            browser.close()


def launched(chromium: BrowserType, variables: Mapping[str, str]) -> Browser:
    """The first browser that starts: the user's choice, one on the path, one that Playwright knows, a new one.

    Raises:
        UserError: none does.
    """
    if chosen := variables.get(CHOICE):
        if browser := _first(chromium, [{"executable_path": chosen}]):
            return browser
        raise UserError(f"{CHOICE} is {chosen}, which does not start: set it to a Chromium or Chrome, or unset it.")
    browser = _first(chromium, [*_on_path(variables), *CHANNELS])
    # What Playwright fetches may lack libraries of the system's, which a package brings.
    for install in (_playwright_installs, partial(install_packages, "chromium")):
        if browser is None and install():
            browser = _first(chromium, [{}, *_on_path(variables)])
    if browser is None:
        raise UserError(
            "This needs a browser and found none: install Chromium or Chrome (on Debian and Ubuntu "
            f"'apt-get install chromium'), or set {CHOICE} to the path of one."
        )
    return browser


def ready_chinese_font() -> None:
    """Have Chinese letters for pictures.

    Raises:
        UserError: there are none, and they cannot be installed.
    """
    if not (_has_chinese() or (install_packages(CHINESE_FONT) and _has_chinese())):
        raise UserError(
            f"Pictures of the Chinese editor need a Chinese font: install one (on Debian and Ubuntu '{CHINESE_FONT}')."
        )


def install_packages(*names: str) -> bool:
    """Install packages of Debian's or Ubuntu's, where this is root on one; returns whether that worked."""
    if shutil.which("apt-get") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return False
    say(f"Installing {', '.join(names)} ...")
    return _succeeds("apt-get", "update", "--quiet") and _succeeds(
        "apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *names
    )


def _on_path(variables: Mapping[str, str]) -> list[dict[str, Any]]:
    found = (shutil.which(name, path=variables.get("PATH")) for name in NAMES)
    return [{"executable_path": path} for path in found if path]


def _first(chromium: BrowserType, choices: Iterable[dict[str, Any]]) -> Browser | None:
    for choice in choices:
        try:
            return chromium.launch(**choice)
        except Error:  # not installed, or, on some systems, a stand-in that only says how to install it
            continue
    return None


def _playwright_installs() -> bool:
    say("Fetching a browser ...")
    return _succeeds(sys.executable, "-m", "playwright", "install", "chromium")


def _has_chinese() -> bool:
    if shutil.which("fc-list") is None:
        return sys.platform in ("win32", "darwin")  # which bring their own
    listing = subprocess.run(["fc-list", ":lang=zh"], capture_output=True, text=True, check=False)
    return bool(listing.stdout.strip())


def _succeeds(*command: str) -> bool:
    variables = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        subprocess.run(command, env=variables, capture_output=True, timeout=INSTALL_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return False
    return True
