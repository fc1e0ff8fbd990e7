"""The user's cache folder: each entry is made once, and whole or not at all.

Removing all or any part of it while nothing runs is always safe.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import filelock
import platformdirs

from .progress import say


def cache_root() -> Path:
    """Folder shared by all clones: TGATE_CACHE_DIR, else one of our own in the system's place for caches."""
    if override := os.environ.get("TGATE_CACHE_DIR"):
        return Path(override).expanduser().absolute()
    return platformdirs.user_cache_path("comfyui-tgate-nodes", appauthor=False)


def content_key(parts: Iterable[str]) -> str:
    """Sixteen hexadecimal digits that change when any part, or the order of the parts, does."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def source_key(places: Sequence[Path]) -> str:
    """Changes with any of these Python files, or any in these folders."""
    files = [file for place in places for file in (sorted(place.rglob("*.py")) if place.is_dir() else [place])]
    return content_key(file.read_bytes().hex() for file in files)


def made(
    entry: Path, what: str, build: Callable[[Path], Path], is_usable: Callable[[Path], bool] = Path.exists
) -> Path:
    """A cache entry, built first where there is none that can be used.

    Args:
        entry: its place.
        what: what it is, for the message to those who wait.
        build: makes the entry inside the empty folder it is given, and returns its path there; it is then moved.
        is_usable: whether what stands at `entry` will do.
    """
    if is_usable(entry):
        return entry
    entry.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(f"{entry}.lock")
    try:
        held = lock.acquire(blocking=False)
    except filelock.Timeout:
        say(f"Another process makes {what}: waiting for it ...")
        held = lock.acquire()
    with held:
        if not is_usable(entry):
            prefix = f"{entry.name}.building-"
            # Builders that were killed leave their folders behind.
            for old in [entry, *entry.parent.glob(f"{prefix}*")]:
                shutil.rmtree(old, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=prefix, dir=entry.parent) as folder:
                build(Path(folder)).rename(entry)
    return entry
