"""Installers as child processes: their output is shown as it comes, and what their failures mean is said."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

from .errors import UserError
from .progress import say

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


def install(command: Sequence[str], what: str, variables: Mapping[str, str] | None = None, shown: bool = True) -> None:
    """Runs an installer to its end; it does not outlive an interrupted parent.

    Args:
        command: program and arguments.
        what: what it installs, as in "Installation of <what> failed".
        variables: the child's environment; this process's own when None.
        shown: whether its output is shown as it comes, and not only when it fails.

    Raises:
        UserError: it failed; the text names the cause if its output shows one.
    """
    # Settings of pip's that do not go with a folder of our own, and a warning that does not apply to one.
    settings = {**(variables or os.environ), "PIP_USER": "0", "PIP_ROOT_USER_ACTION": "ignore"}
    say(f"Installing {what} ...")
    output = ""
    with subprocess.Popen(
        command,
        env=settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
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
        raise UserError(f"Installation of {what} failed, see above: {_advice(output.lower())}.")


def _advice(output: str) -> str:
    fitting = (advice for advice, signs in CAUSES.items() if any(sign in output for sign in signs))
    return next(fitting, "put right what is said there, and run this again")
