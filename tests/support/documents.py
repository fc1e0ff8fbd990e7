"""Reads what people read: Markdown documents, their links, tables and anchors."""

from __future__ import annotations

import re
from pathlib import Path

from tgate_dev.readme import section

REPO = Path(__file__).resolve().parents[2]
DOCS = REPO / "docs"
HELP = REPO / "web" / "docs"
PICTURE = re.compile(r"!\[[^\]]*\]\(([^)]+)\)")
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)]+)\)")
NUMBER = re.compile(r"(?<![A-Za-z])\d+(?:[.,]\d+)*")
CODE = re.compile(r"`([^`\n]+)`")


def text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def without_support_table(text: str) -> str:
    """A document without the table of models, which is compared as a whole."""
    return text.replace(section(text, "support"), "") if "<!-- support" in text else text


def table_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def tables(text: str, first_heading: str) -> list[list[list[str]]]:
    """The rows, as cells, of each table whose first column is so headed; without the heading."""
    found = []
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.MULTILINE):
        heading, _, *rows = [cells_of(line) for line in block.splitlines()]
        if heading[0] == first_heading:
            found.append(rows)
    return found


def supported_models() -> list[list[str]]:
    """Cells of each row of the table of supported models, in English."""
    _, _, *rows = section(text_of(DOCS / "models.md"), "support").splitlines()
    return [cells_of(row) for row in rows]


def anchors(text: str) -> set[str]:
    """What GitHub makes of the headings of a document."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def local_targets(text: str) -> list[str]:
    """Links and pictures that lead to a place within the repository."""
    return [target for target in (*PICTURE.findall(text), *LINK.findall(text)) if "://" not in target]


def missing(target: str, file: Path, base: Path) -> str:
    """Why a link leads nowhere, or nothing.

    Args:
        target: as written, an anchor included.
        file: the document that has the link.
        base: the folder that the link is relative to.
    """
    place, _, anchor = target.partition("#")
    linked = base / place if place else file
    if not linked.exists():
        return f"{target}: no such file"
    return f"{target}: no such heading" if anchor and anchor not in anchors(text_of(linked)) else ""
