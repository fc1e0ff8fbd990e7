"""From a plain Python to the developer tool: fetches what the tool imports, then runs its command line.

Standard library only, like `errors` and `process`, which it uses.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from .errors import UserError, cache_errors
from .process import PIP, install

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
BAD_USE = 2
INTERRUPTED = 130
TERMINATED = 143


def run(arguments: Sequence[str]) -> int:
    """Runs the command line; returns the process's exit code.

    2 is for what the user can put right, and a sentence on the error stream says how.
    """
    # An exception, so that children are ended and half-made folders removed on the way out.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(TERMINATED))
    try:
        sys.path.insert(0, str(fetched_tools()))
        from .cli import main

        return main(arguments)
    except UserError as error:
        if "--verbose" in arguments:
            traceback.print_exc()
        sys.stderr.write(f"{error}\n")
        return BAD_USE
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted: nothing half-made is kept, so the same command can simply be run again.\n")
        return INTERRUPTED


def fetched_tools() -> Path:
    """The folder with uv, platformdirs and filelock, fetched if it is not there yet.

    Raises:
        UserError: they cannot be fetched.
    """
    folder = _place()
    if not folder.exists():
        with cache_errors():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", dir=folder.parent) as scratch:
                _fetch(Path(scratch) / "tools", folder)
    return folder


def uv() -> str:
    """The path of the fetched uv."""
    return str(_place() / "bin" / ("uv.exe" if sys.platform == "win32" else "uv"))


def _place() -> Path:
    # platformdirs, which knows the system's own place for caches, is among what is fetched.
    variables = os.environ
    default = Path(variables.get("XDG_CACHE_HOME") or "~/.cache") / "comfyui-tgate-nodes"
    root = Path(variables.get("TGATE_CACHE_DIR") or default).expanduser().absolute()
    parts = [REQUIREMENTS.read_text(encoding="utf-8"), sys.platform, platform.machine(), str(sys.version_info[:2])]
    return root / "bootstrap" / hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _fetch(new: Path, folder: Path) -> None:
    if importlib.util.find_spec("pip") is None:
        raise UserError(
            f"{sys.executable} has no pip: install it (on Debian and Ubuntu 'apt install python3-pip'), "
            "or use another Python."
        )
    options = ["--quiet", "--target", str(new), "--requirement", str(REQUIREMENTS)]
    install([*PIP, "install", *options], "the developer tool's own packages")
    try:
        new.rename(folder)
    except OSError:
        # Another process may have been faster.
        if not folder.exists():
            raise
