"""The user's cache folder: where it is, who may build in it, and what is thrown away."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

FOLDER = "comfyui-tgate-nodes"
UNUSED_AFTER_SECONDS = 30 * 24 * 3600
LOCK_POLL_SECONDS = 0.2


def cache_root(variables: Mapping[str, str] = os.environ) -> Path:
    """Folder shared by all clones: TGATE_CACHE_DIR, else one of our own in the system's place for caches."""
    override = variables.get("TGATE_CACHE_DIR")
    if override:
        return Path(override).expanduser().absolute()
    if sys.platform == "win32":
        base = Path(variables.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(variables.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / FOLDER


def content_key(parts: Iterable[str]) -> str:
    """Sixteen hexadecimal digits that change when any part, or the order of the parts, does."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def lock_path(entry: Path) -> Path:
    """Lock file of a cache entry: next to it, so that removing the entry does not remove the lock."""
    return entry.with_name(entry.name + ".lock")


def remove_tree(folder: Path) -> None:
    """Removes a folder; one that is not there is fine."""
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


@contextlib.contextmanager
def locked(entry: Path, on_wait: Callable[[], None]) -> Iterator[int]:
    """Holds a cache entry's lock; yields the lock's file descriptor.

    The system lets go of the lock when the last process that has the descriptor ends. A builder passes it to its child
    processes, so an installer that outlives its parent still keeps others out.

    Args:
        entry: the folder to be built; it need not exist.
        on_wait: called once when another process holds the lock.
    """
    entry.parent.mkdir(parents=True, exist_ok=True)
    with lock_path(entry).open("a+") as file:
        if not _try_lock(file):
            on_wait()
            while not _try_lock(file):
                time.sleep(LOCK_POLL_SECONDS)
        yield file.fileno()


def remove_unused(entries: Path, marker: str, now: float) -> list[Path]:
    """Removes the entries nobody wants; returns what was removed.

    Those are the complete ones whose marker file was last touched long ago, and what builders that were killed left
    behind, which has no marker. An entry that is locked is left alone.
    """
    removed = []
    for entry in [path for path in entries.iterdir() if path.is_dir()]:
        stamp = entry / marker
        if stamp.is_file() and now - stamp.stat().st_mtime < UNUSED_AFTER_SECONDS:
            continue
        with lock_path(entry).open("a+") as file:
            if _try_lock(file):
                remove_tree(entry)
                removed.append(entry)
    return removed


if sys.platform == "win32":
    import msvcrt

    def _try_lock(file: IO[str]) -> bool:
        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(file: IO[str]) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
