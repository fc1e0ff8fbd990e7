"""Generated parts of a document: found by their marks, replaced without touching the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from tgate_dev.errors import UserError
from tgate_dev.readme import replace_section, section

BEGIN, END = "<!-- table: made by `python3 tools/dev.py table` -->", "<!-- end of table -->"
TEXT = f"before\n\n{BEGIN}\n\nold\n\n{END}\n\nafter → …\n"


def test_new_content_replaces_the_old_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "models.md"
    file.write_text(TEXT, encoding="utf-8")
    replace_section(file, "table", "| new |\n| row |\n")
    assert file.read_text(encoding="utf-8") == TEXT.replace("old", "| new |\n| row |")
    replace_section(file, "table", "old")
    assert file.read_text(encoding="utf-8") == TEXT


def test_a_part_is_read_without_the_lines_around_it() -> None:
    assert section(TEXT, "table") == "old"


@pytest.mark.parametrize(
    "text", ["", TEXT.replace(END, ""), TEXT.replace(BEGIN, ""), TEXT + TEXT, f"{END}\nold\n{BEGIN}\n"]
)
def test_missing_or_doubled_marks_are_named(text: str) -> None:
    with pytest.raises(UserError, match="put them back"):
        section(text, "table")
