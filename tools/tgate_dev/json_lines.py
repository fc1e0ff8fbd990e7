"""Files of JSON, a value a line, that are written while something runs which may be stopped at any moment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read(file: Path) -> Iterator[Any]:
    """The values of a file, which need not exist; a line that was cut off while it was written is none."""
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def append(file: Path, value: Any) -> None:
    """Write a value behind the others: another process may be at work on the same file."""
    is_cut_off = file.is_file() and file.read_bytes()[-1:] not in (b"", b"\n")
    with file.open("a", encoding="utf-8", newline="\n") as lines:
        lines.write(f"{chr(10) if is_cut_off else ''}{json.dumps(value, ensure_ascii=False)}\n")
