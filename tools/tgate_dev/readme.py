"""Generated parts of documents."""

from __future__ import annotations

from pathlib import Path

from .errors import UserError

_BEGIN = "<!-- {name}: made by `python3 tools/dev.py {name}` -->"
_END = "<!-- end of {name} -->"


def section(text: str, name: str) -> str:
    """What stands between the marks of a generated part.

    Raises:
        UserError: the marks are not there.
    """
    begin, end = _marks(text, name)
    return text[begin:end].strip()


def replace_section(file: Path, name: str, content: str) -> None:
    """Put new content between the marks of a generated part.

    Raises:
        UserError: the marks are not there.
    """
    text = file.read_text(encoding="utf-8")
    begin, end = _marks(text, name)
    file.write_text(f"{text[:begin]}\n\n{content.strip()}\n\n{text[end:]}", encoding="utf-8")


def _marks(text: str, name: str) -> tuple[int, int]:
    """Where a part begins, behind its first mark, and where it ends, before its last."""
    first, last = _BEGIN.format(name=name), _END.format(name=name)
    if text.count(first) != 1 or text.count(last) != 1 or text.index(first) > text.index(last):
        raise UserError(f"The document needs the lines `{first}` and `{last}`, in this order: put them back.")
    return text.index(first) + len(first), text.index(last)
