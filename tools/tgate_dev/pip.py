"""pip as the set-up uses it: how far it is, and what its failures mean."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from .cache import cache_root
from .errors import UserError

DISK_FULL = ("no space left on device", "not enough space on the disk", "disk quota exceeded")
NO_NETWORK = (
    "newconnectionerror",
    "connecttimeouterror",
    "connectionerror",
    "readtimeouterror",
    "read timed out",
    "proxyerror",
    "sslerror",
    "name resolution",
    "max retries exceeded",
)
NOTHING_FITS = re.compile(r"no matching distribution found for (\S+)", re.IGNORECASE)
FETCHING = re.compile(r"^\s*(Collecting|Downloading|Using cached) (?:\S*/)?([\w.]+(?:-\d[\w.]*)?)")
INSTALLING = "Installing collected packages: "


def variables(temporary: Path) -> dict[str, str]:
    """This process's environment with pip's scratch space in `temporary`: on the disk whose free space is checked, and
    inside the folder that is wiped when a set-up was interrupted.
    """
    temporary.mkdir(parents=True, exist_ok=True)
    scratch = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
    return {**os.environ, **scratch, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


class InstallProgress:
    """How far `pip install` is, from its output and, once it falls silent, from what has arrived in the environment."""

    def __init__(self, environment: Path) -> None:
        self._environment = environment
        self._detail = ""
        self._before = self._total = 0

    def __call__(self, new_output: str) -> str:
        for line in new_output.splitlines():
            self._read(line)
        if self._total:
            arrived = min(self._arrived() - self._before, self._total)
            return f"{100 * arrived // self._total} %, {arrived} of {self._total} packages installed"
        return self._detail

    def _read(self, line: str) -> None:
        if line.startswith(INSTALLING):
            self._before, self._total = self._arrived(), line.count(",") + 1
        elif match := FETCHING.match(line):
            self._detail = f"{match[1].lower()} {match[2]}"

    def _arrived(self) -> int:
        places = ("lib/python*/site-packages", "Lib/site-packages")
        return max(len(list(self._environment.glob(f"{place}/*.dist-info"))) for place in places)


def failure(what: str, output: str, log: Path, settings: Mapping[str, str] = os.environ) -> UserError:
    """The sentence for a pip that failed.

    Args:
        what: what it was doing, as in "pip could not <what>".
        output: everything it wrote.
        log: where the user finds the same.
        settings: the process's environment variables.
    """
    text = output.lower()
    where = f"Its output is in {log}."
    if any(sign in text for sign in DISK_FULL):
        return disk_full()
    if settings.get("PIP_NO_INDEX"):
        return UserError(f"PIP_NO_INDEX keeps pip from the package index: unset it to let pip {what}. {where}")
    if any(sign in text for sign in NO_NETWORK):
        advice = "check the network connection, or the proxy and index that pip is set to, and run this again"
        return UserError(f"pip reached no package index to {what}: {advice}. {where}")
    if match := NOTHING_FITS.search(output):
        python = f"Python {platform.python_version()} on {sys.platform} {platform.machine()}"
        return UserError(f"The package index has no {match[1]} for {python}: run this with another Python. {where}")
    return UserError(f"pip could not {what}: see its output in {log} for the reason, and run this again.")


def disk_full() -> UserError:
    """The sentence for a full disk."""
    advice = "free some space, or set TGATE_CACHE_DIR to a folder on another disk"
    return UserError(f"The disk that holds {cache_root()} is full: {advice}.")
