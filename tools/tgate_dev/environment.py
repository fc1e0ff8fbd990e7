"""The environment everything runs in: a ComfyUI, and a Python that has what it needs."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import pip
from .cache import cache_root
from .comfyui import DEFAULT_VERSION, Comfyui, find_local
from .comfyui_fetch import fetched_comfyui
from .errors import UserError
from .virtualenv import interpreter, ready_virtualenv

# `absolute` and not `resolve`: a link in custom_nodes is a place to stand in.
PACK = Path(__file__).absolute().parents[2]
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
    """What there is to run with.

    Attributes:
        python: the interpreter of the virtual environment.
        comfyui: the folder that holds ComfyUI's main.py.
        comfyui_version: as the tree states it.
    """

    python: Path
    comfyui: Path
    comfyui_version: str

    def variables(self, base: Mapping[str, str] = os.environ) -> dict[str, str]:
        """Environment variables for programs that run in it: no other Python's packages, memory kept, no byte code."""
        kept = {name: value for name, value in base.items() if name not in OTHER_PYTHONS}
        ours = {"TGATE_COMFYUI": str(self.comfyui), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        return {**kept, **CPU_TENSOR_WORK, **ours}


def ensure(version: str | None = None, verbose: bool = False) -> Environment:
    """The environment, set up first where it is missing; progress goes to the error stream.

    Args:
        version: the pinned ComfyUI to use; None for the user's own, or the newest pinned one where there is none.
        verbose: whether the installers' output is shown.

    Raises:
        UserError: it cannot be set up; the text says what to do.
    """
    try:
        comfyui = choose_comfyui(version, PACK, os.environ, verbose)
        virtualenv = ready_virtualenv(comfyui.path, verbose)
    except OSError as error:
        raise _explained(error) from error
    return Environment(interpreter(virtualenv), comfyui.path, comfyui.version)


def choose_comfyui(version: str | None, pack: Path, variables: Mapping[str, str], verbose: bool) -> Comfyui:
    """The ComfyUI of the version asked for; when none is, the user's own before the newest pinned one."""
    local = find_local(pack, variables) if version is None else None
    return local or fetched_comfyui(version or DEFAULT_VERSION, verbose)


def _explained(error: OSError) -> UserError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return pip.disk_full()
    place = f" at {error.filename}" if error.filename else ""
    return UserError(
        f"The cache folder {cache_root()} cannot be used ({error.strerror or error}{place}): make it writable, "
        "or set TGATE_CACHE_DIR to a folder that is."
    )
