"""The archive that the registry gets, packed as `comfy node pack` does: tracked files less those of .comfyignore."""

from __future__ import annotations

import subprocess
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from pathspec import GitIgnoreSpec

REPO = Path(__file__).resolve().parents[2]


def shipped_files() -> list[str]:
    """Paths within the repository, in Git's order."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=REPO, capture_output=True, text=True, check=True).stdout
    ignored = GitIgnoreSpec.from_lines((REPO / ".comfyignore").read_text(encoding="utf-8").splitlines())
    return [name for name in listing.split("\0") if name and not ignored.match_file(name) and (REPO / name).is_file()]


def unpacked_archive(folder: Path) -> Path:
    """Pack the archive and unpack it again, as an installation does; returns the unpacked folder."""
    with ZipFile(folder / "node.zip", "w", ZIP_DEFLATED) as archive:
        for name in shipped_files():
            archive.write(REPO / name, name)
    unpacked = folder / "comfyui-tgate-nodes"
    with ZipFile(folder / "node.zip") as archive:
        archive.extractall(unpacked)
    return unpacked
