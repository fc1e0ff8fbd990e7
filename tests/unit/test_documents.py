"""What people read: help pages of every node, and documents in two languages that say the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from documents import (
    CODE,
    DOCS,
    HELP,
    NUMBER,
    PICTURE,
    REPO,
    local_targets,
    missing,
    table_lines,
    text_of,
    without_support_table,
)

from tgate_dev.readme import chinese_table, section

NODES = sorted(
    set(re.findall(r'node_id="(\w+)"', "".join(p.read_text("utf-8") for p in (REPO / "nodes").glob("*.py"))))
)
TRANSLATED = ("models", "nodes", "settings", "troubleshooting")
# English, and Chinese beside it.
PAIRS = [
    *((HELP / f"{name}.md", HELP / name / "zh.md") for name in NODES),
    (REPO / "README.md", REPO / "README.zh.md"),
    *((DOCS / f"{name}.md", DOCS / f"{name}.zh.md") for name in TRANSLATED),
]
# All but help pages, whose links the editor resolves in its own way.
DOCUMENTS = sorted([*REPO.glob("*.md"), *DOCS.rglob("*.md"), *(REPO / ".github").rglob("*.md")])
MOST_WORDS = 900


def test_nodes_are_found() -> None:
    assert len(NODES) == 9


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0].stem)
class TestPair:
    def test_chinese_has_no_figure_and_no_name_that_english_has_not(self, pair: tuple[Path, Path]) -> None:
        """Chinese may say less; a figure that was changed on one side alone is found."""
        english, chinese = (without_support_table(text_of(file)) for file in pair)
        assert set(NUMBER.findall(chinese)) <= set(NUMBER.findall(english))
        assert set(CODE.findall(chinese)) <= set(CODE.findall(english)) | plain_names(english)

    def test_tables_hold_the_same_figures_row_by_row(self, pair: tuple[Path, Path]) -> None:
        english, chinese = (table_lines(without_support_table(text_of(file))) for file in pair)
        assert len(english) == len(chinese)
        for ours, theirs in zip(english, chinese, strict=True):
            assert sorted(NUMBER.findall(ours)) == sorted(NUMBER.findall(theirs)), f"{ours}\n{theirs}"
            assert set(CODE.findall(ours)) <= set(CODE.findall(theirs)), f"{ours}\n{theirs}"

    def test_both_have_the_same_parts(self, pair: tuple[Path, Path]) -> None:
        english, chinese = (text_of(file) for file in pair)

        assert re.findall("^#+ ", english, re.MULTILINE) == re.findall("^#+ ", chinese, re.MULTILINE)
        assert len(PICTURE.findall(english)) == len(PICTURE.findall(chinese))


def plain_names(english: str) -> set[str]:
    """Names that the English page writes in bold or italics rather than as code."""
    return set(re.findall(r"\*+([^*\n]+)\*+", english)) | set(re.findall(r"\w+", english))


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(REPO)))
def test_links_and_pictures_within_the_repository_lead_somewhere(file: Path) -> None:
    assert [reason for target in local_targets(text_of(file)) if (reason := missing(target, file, file.parent))] == []


@pytest.mark.parametrize("name", NODES)
def test_pictures_of_help_pages_are_there_and_links_are_whole_addresses(name: str) -> None:
    for file in (HELP / f"{name}.md", HELP / name / "zh.md"):
        pictures = PICTURE.findall(text_of(file))
        # The editor opens links of help pages as they are.
        assert local_targets(text_of(file)) == pictures
        # It looks for pictures of any help page, in any language, from the folder of all of them.
        assert not [reason for target in pictures if (reason := missing(target, file, HELP))]


def test_readme_leads_to_every_document() -> None:
    for readme in ("README.md", "README.zh.md"):
        linked = {target.partition("#")[0] for target in local_targets(text_of(REPO / readme))}
        for file in DOCS.glob("*.md"):
            chinese = f"docs/{file.name.split('.')[0]}.zh.md"
            name = chinese if "zh" in readme and (REPO / chinese).is_file() else f"docs/{file.name.split('.')[0]}.md"
            assert name in linked, f"{readme} does not lead to {name}"


def test_readme_is_short() -> None:
    assert len(text_of(REPO / "README.md").split()) <= MOST_WORDS


@pytest.mark.parametrize("name", NODES)
def test_help_explains_every_input_and_output(name: str) -> None:
    texts = json.loads(text_of(REPO / "locales" / "en" / "nodeDefs.json"))[name]
    chinese = json.loads(text_of(REPO / "locales" / "zh" / "nodeDefs.json"))[name]
    english_page, chinese_page = text_of(HELP / f"{name}.md"), text_of(HELP / name / "zh.md")
    for group in ("inputs", "outputs"):
        for key, text in texts[group].items():
            # What the graph's file and error messages call it.
            code = key if group == "inputs" else text["name"]
            assert re.search(rf"[*`]{re.escape(text['name'])}[*`]", english_page), text["name"]
            assert code == text["name"] or f"`{code}`" in english_page, code
            assert chinese[group][key]["name"].split("（")[0] in chinese_page
            assert f"`{code}`" in chinese_page, code
    assert PICTURE.findall(english_page)
    assert PICTURE.findall(english_page) == PICTURE.findall(chinese_page)


def test_no_picture_is_left_over() -> None:
    used = {target for name in NODES for target in PICTURE.findall(text_of(HELP / f"{name}.md"))}
    assert used == {f"images/{path.name}" for path in (HELP / "images").iterdir()}


def test_the_table_of_models_is_the_same_in_chinese() -> None:
    english, chinese = (section(text_of(DOCS / name), "support") for name in ("models.md", "models.zh.md"))
    assert chinese == chinese_table(english).strip()
    for row in chinese.splitlines():
        _, *words = row.strip("|").split("|")
        assert not re.search("(?!cfg)[a-z]{3,}", "".join(words)), f"not translated: {row}"
