"""Packs what a machine with torch, a card and no network needs to run `bench gpu`."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ... import bootstrap
from ...cache import cache_root
from ...environment import PACK, Environment
from ...errors import UserError
from .stand_ins import STAND_INS

MIB = 2**20
MOST_BYTES = 60 * MIB
RUN = Path(__file__).with_name("run.sh")
# What Linux machines with a card run wheels of.
PLATFORM = "x86_64-manylinux_2_28"
# Of the host's requirements: what comes with torch, and what is not imported.
NOT_CARRIED = (
    *("torch", "numpy", *STAND_INS, "kornia", "spandrel", "PyOpenGL", "comfy-angle", "uv"),
    *("comfyui-frontend-package", "comfyui-workflow-templates", "comfyui-embedded-docs"),
)
# What comfy-kitchen imports and does not ask for.
FURTHER = ("packaging",)
HOST_FOLDERS = (
    *("api_server", "app", "comfy", "comfy_api", "comfy_config", "comfy_execution", "comfy_extras"),
    *("middleware", "utils"),
)
PACK_PARTS = ("__init__.py", "pyproject.toml", "nodes", "tgate_core", "tools/tgate_dev")
# Tokenizers have no text to read here, and AMD's cards are not timed.
LEFT_OUT = ("__pycache__", "text_encoders/*tokenizer", "comfy_kitchen/backends/hip", "tgate_dev/scenes/weights")


def pack(ready: Environment, options: argparse.Namespace) -> int:
    """Write `run.sh`, the archive that it unpacks and the list of packages in it to `options.bundle`.

    Raises:
        UserError: a package cannot be fetched, or all together is too large.
    """
    folder: Path = options.bundle
    folder.mkdir(parents=True, exist_ok=True)
    version = options.python or ".".join(platform.python_version_tuple()[:2])
    with tempfile.TemporaryDirectory() as name:
        packages = Path(name) / "packages"
        _fill(packages, ready, version)
        # Faster than its usual setting, and hardly larger.
        with tarfile.open(folder / "bundle.tar.xz", "w:xz", preset=1) as archive:
            for source, target in _contents(packages, ready.comfyui):
                archive.add(source, target, filter=_kept)
        names = sorted(path.stem.replace("-", "==") for path in packages.glob("*.dist-info"))
    list_of_packages = "\n".join([f"For Python {version}:", *names, ""])
    (folder / "packages.txt").write_text(list_of_packages, encoding="utf-8")
    shutil.copy(RUN, folder)
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    if size > MOST_BYTES:
        raise UserError(f"The bundle in {folder} has {size / MIB:.0f} MiB and may have {MOST_BYTES // MIB}.")
    print(f"{folder} has {size / MIB:.0f} MiB, for Python {version} with torch: run `sh run.sh` in it there.")
    return 0


def _contents(packages: Path, host: Path) -> Iterator[tuple[Path, str]]:
    yield packages, "packages"
    for name in PACK_PARTS:
        yield PACK / name, f"pack/{name}"
    for path in sorted(host.glob("*.py")):
        yield path, f"comfyui/{path.name}"
    for name in HOST_FOLDERS:
        # Not all of the host's versions have all.
        if (host / name).is_dir():
            yield host / name, f"comfyui/{name}"


def _kept(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """The entry; None for what is left out, and for all in it."""
    path = Path(entry.name)
    return None if any(path.match(pattern) for pattern in LEFT_OUT) else entry


def _fill(packages: Path, ready: Environment, version: str) -> None:
    """Installs the host's requirements for the other Python, in the versions of this environment."""
    variables = {"UV_CACHE_DIR": str(cache_root() / "uv"), **os.environ}
    uv, python = bootstrap.uv(), ["--python", str(ready.python)]
    freeze = subprocess.run([uv, "pip", "freeze", *python], env=variables, capture_output=True, text=True, check=True)
    pins, without = packages.parent / "pins.txt", packages.parent / "without.txt"
    pins.write_text(freeze.stdout, encoding="utf-8")
    without.write_text("".join(f"{name}; sys_platform == 'never'\n" for name in NOT_CARRIED), encoding="utf-8")
    requirements = (ready.comfyui / "requirements.txt", bootstrap.REQUIREMENTS)
    sources = [argument for path in requirements for argument in ("--requirements", str(path))]
    target = ["--target", str(packages), "--python-version", version, "--python-platform", PLATFORM]
    limits = ["--constraints", str(pins), "--overrides", str(without), "--only-binary", ":all:"]
    command = [uv, "pip", "install", *python, *target, *FURTHER, *sources, *limits]
    bootstrap.install(command, f"packages for Python {version}", variables, shown=False)
