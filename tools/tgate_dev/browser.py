"""A Chromium to look at the editor with: the system's own where there is one, else one that is fetched.

Runs in the environment's python, which has Playwright.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from .cache import cache_root, locked
from .errors import UserError
from .progress import say

# An explicit choice of the user's, by its path.
CHOICE = "TGATE_BROWSER"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
    "C:/Program Files (x86)/Microsoft/Edge/Application/msedge.exe",
)
# Nothing but the pages it is shown, and no need for a graphics card or a user's profile.
FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
)
START_SECONDS = 60
INSTALL_SECONDS = 600
# Small, and has what the Chinese editor shows.
CHINESE_FONT = "fonts-wqy-microhei"


def launch_flags() -> list[str]:
    """Flags to start the browser with; as root it starts without its sandbox alone."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return [*FLAGS, *(["--no-sandbox"] if is_root else [])]


def ready_browser() -> Path:
    """A browser that starts: found, or fetched and kept in the cache, or installed where this is root on Debian.

    Raises:
        UserError: there is none to be had; the text says how to get one.
    """
    chosen = os.environ.get(CHOICE)
    if chosen:
        if not starts(Path(chosen)):
            raise UserError(f"{CHOICE} is {chosen}, which does not start: set it to a Chromium or Chrome, or unset it.")
        return Path(chosen)
    found = find(os.environ) or _fetched()
    if found is None and install_packages("chromium"):
        found = find(os.environ)
    if found is None:
        raise UserError(
            "The editor's tests need a browser and found none: install Chromium or Chrome (on Debian and Ubuntu "
            f"'apt-get install chromium'), or set {CHOICE} to the path of one."
        )
    return found


def find(variables: Mapping[str, str]) -> Path | None:
    """The system's own Chromium or Chrome, if one starts."""
    on_path = (shutil.which(name, path=variables.get("PATH")) for name in NAMES)
    candidates = [*(Path(path) for path in on_path if path), *map(Path, PLACES)]
    return next((path for path in candidates if path.is_file() and starts(path)), None)


def starts(browser: Path) -> bool:
    """Whether a browser can be run; some systems have a stand-in of its name that only says how to install it."""
    return _succeeds([str(browser), "--version"], START_SECONDS)


def ready_chinese_font() -> None:
    """Chinese letters for pictures.

    Raises:
        UserError: there are none, and they cannot be installed.
    """
    if _has_chinese() or (install_packages(CHINESE_FONT) and _has_chinese()):
        return
    raise UserError(
        f"Pictures of the Chinese editor need a Chinese font: install one (on Debian and Ubuntu '{CHINESE_FONT}')."
    )


def install_packages(*names: str) -> bool:
    """Install packages of Debian's or Ubuntu's, where this is root on one; returns whether that worked."""
    if shutil.which("apt-get") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return False
    say(f"Installing {', '.join(names)} ...")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    update = ["apt-get", "update", "--quiet"]
    install = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *names]
    return all(_succeeds(command, INSTALL_SECONDS, quiet) for command in (update, install))


def _fetched() -> Path | None:
    """Playwright's own browser, from the cache or fetched; None where it cannot be."""
    folder = cache_root() / "browser"
    variables = {**os.environ, "PLAYWRIGHT_BROWSERS_PATH": str(folder)}
    with locked(folder, lambda: say("Another process fetches a browser: waiting for it ...")):
        if (known := _playwright_browser(variables)) is not None:
            return known
        say("Fetching a browser ...")
        _succeeds([sys.executable, "-m", "playwright", "install", "chromium"], INSTALL_SECONDS, variables)
    return _playwright_browser(variables)


def _playwright_browser(variables: Mapping[str, str]) -> Path | None:
    program = "from playwright.sync_api import sync_playwright as s\nwith s() as p: print(p.chromium.executable_path)"
    answer = subprocess.run(
        [sys.executable, "-c", program], env=dict(variables), capture_output=True, text=True, check=False
    )
    path = Path(answer.stdout.strip())
    return path if answer.returncode == 0 and path.is_file() and starts(path) else None


def _has_chinese() -> bool:
    if shutil.which("fc-list") is None:
        return sys.platform in ("win32", "darwin")  # which bring their own
    listing = subprocess.run(["fc-list", ":lang=zh"], capture_output=True, text=True, check=False)
    return bool(listing.stdout.strip())


def _succeeds(command: Sequence[str], seconds: float, variables: Mapping[str, str] | None = None) -> bool:
    try:
        done = subprocess.run(
            command,
            env=None if variables is None else dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
