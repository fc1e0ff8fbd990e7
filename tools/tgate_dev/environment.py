"""The environment everything runs in: a ComfyUI, and a Python that has what it needs."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import bootstrap
from .cache import cache_root, content_key, made
from .comfyui import DEFAULT_VERSION, Comfyui, fetched, find_local, read_version
from .errors import cache_errors

# `absolute` and not `resolve`: a link in custom_nodes is a place to stand in.
PACK = Path(__file__).absolute().parents[2]
PROJECT = PACK / "pyproject.toml"
# Of the host's requirements: torch is pinned in our dependency group, and the templates are hundreds of MB of media,
# without which the server only says that they are missing.
NOT_FROM_HOST = re.compile(
    r"(torch|torchvision|torchaudio|comfyui[-_.]workflow[-_.]templates)(?![\w.-])", re.IGNORECASE
)
GROUPS = re.compile(r"^\[dependency-groups\]$.*?(?=^\[|\Z)", re.MULTILINE | re.DOTALL)
# Otherwise glibc gives freed memory back at once, and the kernel clears it again, page by small page: a third of the
# time of CPU tensor work. And waiting threads that spin take the processor from those that work.
CPU_TENSOR_WORK = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}
OTHER_PYTHONS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Environment:
    """What there is to run with."""

    python: Path  # the interpreter of the virtual environment
    comfyui: Path  # the folder that holds ComfyUI's main.py
    comfyui_version: str  # as the tree states it

    def variables(self, base: Mapping[str, str] = os.environ) -> dict[str, str]:
        """Environment variables for programs that run in it: no other Python's packages, memory kept, no byte code."""
        kept = {name: value for name, value in base.items() if name not in OTHER_PYTHONS}
        ours = {"TGATE_COMFYUI": str(self.comfyui), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        return {**kept, **CPU_TENSOR_WORK, **ours}

    def run(self, module: str, *arguments: str, **variables: str) -> int:
        """Runs a module of this package in it; returns the exit code. A module that is interrupted has time to end."""
        settings = {**self.variables(), "PYTHONPATH": str(PACK / "tools"), "PYTHONIOENCODING": "utf-8", **variables}
        command = [str(self.python), "-m", f"{__package__}.{module}", *arguments]
        with subprocess.Popen(command, env=settings, stdin=subprocess.DEVNULL) as child:
            try:
                return child.wait()
            except BaseException as error:
                # Ctrl+C has reached it already; what ends this process alone has not.
                if not isinstance(error, KeyboardInterrupt):
                    child.terminate()
                child.wait()
                raise


def ensure(version: str | None = None, verbose: bool = False) -> Environment:
    """The environment, set up first where it is missing; progress goes to the error stream.

    Args:
        version: the pinned ComfyUI to use; None for the user's own, or the newest pinned one where there is none.
        verbose: whether the installers say more.

    Raises:
        UserError: it cannot be set up; the text says what to do.
    """
    with cache_errors():
        comfyui = choose_comfyui(version, PACK, os.environ, verbose)
        return Environment(_ready_python(comfyui.path, verbose), comfyui.path, comfyui.version)


def current() -> Environment:
    """The one that this process runs in."""
    comfyui = Path(os.environ["TGATE_COMFYUI"])
    return Environment(Path(sys.executable), comfyui, read_version(comfyui))


def choose_comfyui(version: str | None, pack: Path, variables: Mapping[str, str], verbose: bool) -> Comfyui:
    """The ComfyUI of the version asked for; when none is, the user's own before the newest pinned one."""
    local = find_local(pack, variables) if version is None else None
    return local or fetched(version or DEFAULT_VERSION, verbose)


def host_requirements(tree: Path) -> str:
    """What a ComfyUI asks for, less what the project pins or leaves out."""
    lines = (tree / "requirements.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not NOT_FROM_HOST.match(line))


def environment_key(wanted: str) -> str:
    """Names an environment by what is in it: Python, platform, the host's requirements and the project's own."""
    python = f"{platform.python_implementation()} {sys.version_info[0]}.{sys.version_info[1]}"
    groups = GROUPS.findall(PROJECT.read_text(encoding="utf-8"))
    own = bootstrap.REQUIREMENTS.read_text(encoding="utf-8")
    return content_key([python, sys.platform, platform.machine(), wanted, *groups, own])


def _ready_python(tree: Path, verbose: bool) -> Path:
    """The Python of a tree's virtual environment, which is made if it is not in the cache yet."""
    wanted = host_requirements(tree)
    relative = Path("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    entry = made(
        cache_root() / "venv" / environment_key(wanted),
        "a virtual environment",
        lambda folder: _make_virtualenv(folder, wanted, relative, verbose),
        is_usable=lambda place: os.access(place / relative, os.X_OK),
    )
    return entry / relative


def _make_virtualenv(folder: Path, wanted: str, python: Path, verbose: bool) -> Path:
    """Makes one that can be moved; uv's own cache lies beside it, so that files are linked and not copied."""
    host = folder / "requirements.txt"
    host.write_text(wanted, encoding="utf-8")
    new = folder / "venv"
    variables = {"UV_CACHE_DIR": str(cache_root() / "uv"), **os.environ}
    uv = [bootstrap.uv(), *(["--verbose"] if verbose else [])]
    make = [*uv, "venv", "--relocatable", "--python", sys.executable, str(new)]
    bootstrap.install(make, "a virtual environment", variables)
    sources = ["--requirements", str(host), "--requirements", str(bootstrap.REQUIREMENTS), "--group", f"{PROJECT}:dev"]
    fill = [*uv, "pip", "install", "--python", str(new / python), "--compile-bytecode", *sources]
    bootstrap.install(fill, "ComfyUI's and the project's requirements", variables)
    return new
