"""From a plain Python to the developer tool: fetches what the tool imports, then runs its command line.

Standard library only, like `errors` and `progress`, which it uses.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, Popen

from .errors import INTERRUPTED, UserError, cache_errors, exit_code
from .progress import say

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
# What pip and uv write, in lower case, and what to do then; the first that fits.
CAUSES = {
    "free some space, or set TGATE_CACHE_DIR to a folder on another disk": (
        "no space left on device",
        "not enough space on the disk",
        "disk quota exceeded",
    ),
    "check the network connection, or the proxy and package index that pip and uv are set to": (
        "connection",
        "error sending request",
        "failed to fetch",
        "max retries exceeded",
        "name resolution",
        "proxyerror",
        "sslerror",
        "timed out",
    ),
    "this Python or platform has no such package, so use another Python": (
        "no matching distribution found",
        "no solution found",
    ),
}


def run(arguments: Sequence[str]) -> int:
    """Runs the command line; returns the process's exit code."""

    def command() -> int:
        sys.path.insert(0, str(fetched_tools()))
        from .cli import main

        return main(arguments)

    code = exit_code(command, "--verbose" in arguments)
    if code == INTERRUPTED:
        say("\nInterrupted: nothing half-made is kept, so the same command can simply be run again.")
    return code


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
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "comfyui-tgate-nodes"
    root = Path(os.environ.get("TGATE_CACHE_DIR") or default).expanduser().absolute()
    parts = [REQUIREMENTS.read_text(encoding="utf-8"), sys.platform, platform.machine(), str(sys.version_info[:2])]
    return root / "bootstrap" / hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _fetch(new: Path, folder: Path) -> None:
    if importlib.util.find_spec("pip") is None:
        raise UserError(
            f"{sys.executable} has no pip: install it (on Debian and Ubuntu 'apt install python3-pip'), "
            "or use another Python."
        )
    command = [*PIP, "install", "--quiet", "--target", str(new), "--requirement", str(REQUIREMENTS)]
    install(command, "the developer tool's own packages")
    try:
        new.rename(folder)
    except OSError:
        # Another process may have been faster.
        if not folder.exists():
            raise


def download(package: str, release: str, sha256: str, folder: Path, what: str, options: Sequence[str] = ()) -> None:
    """Puts the one file of a package that has this hash into a folder, with nothing that it depends on.

    Raises:
        UserError: it cannot be fetched, or there is no such file.
    """
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{package}=={release} --hash=sha256:{sha256}\n", encoding="utf-8")
    arguments = ["--no-deps", *options, "--dest", str(folder), "--requirement", str(requirement)]
    install([*PIP, "download", *arguments], what)


def install(command: Sequence[str], what: str, variables: Mapping[str, str] | None = None, shown: bool = True) -> None:
    """Runs an installer of `what` to its end; it does not outlive an interrupted parent.

    Its environment is this process's own where `variables` is None; its output comes as it runs, or, where it is not
    `shown`, when it fails.

    Raises:
        UserError: it failed; the text names the cause if its output shows one.
    """
    # Settings of pip's that do not go with a folder of our own, and a warning that does not apply to one.
    settings = {**(variables or os.environ), "PIP_USER": "0", "PIP_ROOT_USER_ACTION": "ignore"}
    say(f"Installing {what} ...")
    output = ""
    with Popen(
        command, env=settings, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, encoding="utf-8", errors="replace"
    ) as child:
        try:
            for line in child.stdout or ():
                output += line
                if shown:
                    say(line.rstrip())
        except BaseException:
            child.kill()
            raise
    if child.returncode != 0:
        if not shown:
            say(output)
        fitting = (advice for advice, signs in CAUSES.items() if any(sign in output.lower() for sign in signs))
        advice = next(fitting, "put right what is said there, and run this again")
        raise UserError(f"Installation of {what} failed, see above: {advice}.")
