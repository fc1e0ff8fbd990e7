"""The virtual environment a ComfyUI and this project's checks run in."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from . import pip
from .cache import cache_root, content_key, locked, remove_tree, remove_unused
from .errors import UserError
from .process import CommandFailed, Runner
from .progress import Stage, say

# The three belong together: their binaries link each other.
TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")
# The newest that still run on Python 3.10.
TOOLS = (
    "pytest==9.2.0",
    "hypothesis==6.168.5",
    "ruff==0.17.5",
    "mypy==2.4.1",
    "matplotlib==3.10.9",
    "playwright==1.65.2",
)
# Hundreds of MB of example media, without which the server only says that they are missing.
LEFT_OUT = ("comfyui-workflow-templates",)
STAMP = "complete.json"
NEEDED_GB = 10 if sys.platform == "linux" else 4


def requirements(tree: Path) -> list[str]:
    """What to install for a ComfyUI tree: its own requirements with torch pinned, and the tools of this project."""
    pinned = {_name(line) for line in TORCH}
    text = (tree / "requirements.txt").read_text(encoding="utf-8")
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    host = [line for line in lines if line and _name(line) not in pinned.union(LEFT_OUT)]
    return [*TORCH, *host, *TOOLS]


def environment_key(wanted: Sequence[str]) -> str:
    """Names an environment by what is in it: the Python, the platform, and the requirements in any order."""
    python = f"{platform.python_implementation()} {sys.version_info[0]}.{sys.version_info[1]}"
    return content_key([python, sys.platform, platform.machine(), *sorted(wanted)])


def interpreter(environment: Path) -> Path:
    """The Python of a virtual environment."""
    return environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def is_complete(environment: Path) -> bool:
    """Whether the environment was built to the end and its Python is still there."""
    return (environment / STAMP).is_file() and os.access(interpreter(environment), os.X_OK)


def ready_virtualenv(tree: Path, verbose: bool) -> Path:
    """The environment for a ComfyUI tree, built if it is not in the cache yet.

    Raises:
        UserError: it cannot be built.
    """
    wanted = requirements(tree)
    environment = cache_root() / "venv" / environment_key(wanted)
    if not is_complete(environment):
        with locked(environment, lambda: say("Another process builds this environment: waiting for it ...")) as lock:
            if not is_complete(environment):
                log = cache_root() / "logs" / f"venv-{environment.name}.log"
                build(environment, wanted, Runner.fresh(log, verbose, lock))
                remove_unused(environment.parent, STAMP, time.time())
    with contextlib.suppress(OSError):
        # Tells `remove_unused` that the environment is in use; a cache that cannot be written to may still be used.
        os.utime(environment / STAMP)
    return environment


def build(environment: Path, wanted: Sequence[str], runner: Runner) -> None:
    """Builds an environment from nothing, in place, for it cannot be moved; the stamp that makes it valid is last.

    A build that fails or is interrupted leaves nothing; what a killed one leaves has no stamp, and the next removes it.
    """
    remove_tree(environment)
    _check_disk(environment.parent)
    try:
        _install(environment, wanted, runner)
    except BaseException:
        shutil.rmtree(environment, ignore_errors=True)
        raise
    stamp = environment / f"{STAMP}.new"
    stamp.write_text(json.dumps({"python": sys.version, "requirements": list(wanted)}, indent=1), encoding="utf-8")
    stamp.replace(environment / STAMP)


def _install(environment: Path, wanted: Sequence[str], runner: Runner) -> None:
    with Stage("Making a virtual environment") as stage:
        make_virtualenv(environment, runner, stage)
    listing = environment / "requirements.txt"
    listing.write_text("".join(f"{line}\n" for line in wanted), encoding="utf-8")
    command = [str(interpreter(environment)), "-I", "-m", "pip", "install", "--requirement", str(listing)]
    temporary = environment / "tmp"
    with Stage("Installing the requirements") as stage:
        try:
            runner.run(command, stage, pip.InstallProgress(environment), pip.variables(temporary))
        except CommandFailed as error:
            raise pip.failure("install the requirements", error.output, runner.log) from error
    remove_tree(temporary)


def make_virtualenv(environment: Path, runner: Runner, stage: Stage) -> None:
    """Makes an empty virtual environment with pip in it."""
    if importlib.util.find_spec("ensurepip") is None:
        raise UserError(
            "This Python cannot make virtual environments with pip in them: install its venv package "
            "(on Debian and Ubuntu 'apt install python3-venv'), or use another Python."
        )
    try:
        runner.run([sys.executable, "-I", "-m", "venv", str(environment)], stage)
    except CommandFailed as error:
        if any(sign in error.output.lower() for sign in pip.DISK_FULL):
            raise pip.disk_full() from error
        raise UserError(
            f"{sys.executable} could not make a virtual environment: the reason is in {runner.log}; try another Python."
        ) from error


def _check_disk(folder: Path) -> None:
    free_gb = shutil.disk_usage(folder).free / 1e9
    if free_gb < NEEDED_GB:
        raise UserError(
            f"The environment needs {NEEDED_GB} GB and the disk that holds {folder} has {free_gb:.1f} GB left: "
            "free some space, or set TGATE_CACHE_DIR to a folder on another disk."
        )


def _name(requirement: str) -> str:
    match = re.match(r"[\w.-]+", requirement)
    return re.sub(r"[-_.]+", "-", match[0]).lower() if match else requirement
