"""What people read: help pages of every node, and documents in two languages that tell the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tgate_core.presets import PRESETS, PresetConfig, PresetName
from tgate_dev.bench.published import PUBLISHED_ROWS
from tgate_dev.chinese import chinese_table
from tgate_dev.readme import section

REPO = Path(__file__).resolve().parents[2]
HELP = REPO / "web" / "docs"
NODES = sorted(
    set(re.findall(r'node_id="(\w+)"', "".join(p.read_text("utf-8") for p in (REPO / "nodes").glob("*.py"))))
)
# English, and Chinese beside it.
PAIRS = [
    *((HELP / f"{name}.md", HELP / name / "zh.md") for name in NODES),
    (REPO / "README.md", REPO / "README.zh.md"),
    (REPO / "docs" / "settings.md", REPO / "docs" / "settings.zh.md"),
]
PICTURE = re.compile(r"!\[[^\]]*\]\(([^)]+)\)")
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)]+)\)")
NUMBER = re.compile(r"(?<![A-Za-z])\d+(?:[.,]\d+)*")
CODE = re.compile(r"`([^`\n]+)`")


def text_of(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def without_generated(text: str) -> str:
    """A README without its table of models, which is compared as a whole."""
    return text.replace(section(text, "support"), "") if "<!-- support" in text else text


def test_nodes_are_found() -> None:
    assert len(NODES) == 8


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0].stem)
class TestPair:
    def test_chinese_has_no_figure_and_no_name_that_english_has_not(self, pair: tuple[Path, Path]) -> None:
        """Chinese may say less; a figure that was changed on one side alone is found."""
        english, chinese = (without_generated(text_of(file)) for file in pair)
        assert set(NUMBER.findall(chinese)) <= set(NUMBER.findall(english))
        assert set(CODE.findall(chinese)) <= set(CODE.findall(english)) | plain_names(english)

    def test_tables_hold_the_same_figures_row_by_row(self, pair: tuple[Path, Path]) -> None:
        english, chinese = (table_rows(without_generated(text_of(file))) for file in pair)
        assert len(english) == len(chinese)
        for ours, theirs in zip(english, chinese, strict=True):
            assert sorted(NUMBER.findall(ours)) == sorted(NUMBER.findall(theirs)), f"{ours}\n{theirs}"
            assert set(CODE.findall(ours)) <= set(CODE.findall(theirs)), f"{ours}\n{theirs}"

    def test_both_have_the_same_parts(self, pair: tuple[Path, Path]) -> None:
        english, chinese = (text_of(file) for file in pair)

        assert re.findall("^#+ ", english, re.MULTILINE) == re.findall("^#+ ", chinese, re.MULTILINE)
        assert len(PICTURE.findall(english)) == len(PICTURE.findall(chinese))

    def test_links_and_pictures_within_the_repository_lead_somewhere(self, pair: tuple[Path, Path]) -> None:
        for file in pair:
            is_help = HELP in file.parents
            # The editor looks for pictures of any help page, in any language, from the folder of all of them.
            base = HELP if is_help else file.parent
            local = [target for target in LINK.findall(text_of(file)) if not target.startswith("https://")]
            assert not (is_help and local), "the editor opens links of help pages as they are: give whole addresses"
            for target in [*PICTURE.findall(text_of(file)), *local]:
                place, _, anchor = target.partition("#")
                linked = (base / place) if place else file
                assert linked.is_file(), target
                assert not anchor or anchor in anchors(text_of(linked)), target


def table_rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


def plain_names(english: str) -> set[str]:
    """Names that the English page writes in bold or italics rather than as code."""
    return set(re.findall(r"\*+([^*\n]+)\*+", english)) | set(re.findall(r"\w+", english))


def anchors(text: str) -> set[str]:
    """What GitHub makes of the headings of a document."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", NODES)
def test_help_explains_every_input_and_output(name: str) -> None:
    texts = json.loads(text_of(REPO / "locales" / "en" / "nodeDefs.json"))[name]
    chinese = json.loads(text_of(REPO / "locales" / "zh" / "nodeDefs.json"))[name]
    english_page, chinese_page = text_of(HELP / f"{name}.md"), text_of(HELP / name / "zh.md")
    for group in ("inputs", "outputs"):
        for key, text in texts[group].items():
            assert re.search(rf"[*`]{re.escape(text['name'])}[*`]", english_page), text["name"]
            assert chinese[group][key]["name"].split("（")[0] in chinese_page
            assert f"`{text['name']}`" in chinese_page, text["name"]
    assert PICTURE.findall(english_page)
    assert PICTURE.findall(english_page) == PICTURE.findall(chinese_page)


def test_no_picture_is_left_over() -> None:
    used = {target for name in NODES for target in PICTURE.findall(text_of(HELP / f"{name}.md"))}
    assert used == {f"images/{path.name}" for path in (HELP / "images").iterdir()}


def test_the_table_of_models_is_the_same_in_chinese() -> None:
    english, chinese = (section(text_of(REPO / name), "support") for name in ("README.md", "README.zh.md"))
    assert chinese == chinese_table(english).strip()
    for row in chinese.splitlines():
        _, *words = row.strip("|").split("|")
        assert not re.search("[a-z]{3,}", "".join(words)), f"not translated: {row}"


def published_table(text: str) -> list[tuple[str, ...]]:
    """Rows of the settings guide's table of published runs, without its heading."""
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in text.splitlines() if "|" in line]
    return [row for row in rows if len(row) == 8 and row[4][:1].isdigit()]


@pytest.mark.parametrize("language", ["", ".zh"])
def test_published_figures_are_those_that_are_counted(language: str) -> None:
    """Each row of the settings guide is one that `bench macs` holds the pack against."""
    rows = published_table(text_of(REPO / "docs" / f"settings{language}.md"))
    known = [(row.run["steps"], row.tera_macs, row.schedule) for row in PUBLISHED_ROWS]
    assert len(rows) == 30
    for name, steps, gate, sp, macs, *_ in rows:
        schedules = [schedule for *run, schedule in known if run == [int(steps), float(macs)]]
        begin = "plain" if gate == "-" else f"{gate}/{sp}/1/"
        assert any(schedule.startswith(begin) for schedule in schedules), f"{name}: {gate}, {sp}, {macs}"


PRESET_COLUMNS = ("sd15", "sdxl", "pixart", "generic")
OTHER_NAMES = {"sd21": "sd15", "playground-2.5": "sdxl", "svd": "sdxl"}


def setting_of(family: str, steps: int, preset: PresetName = "balanced") -> str:
    config = PresetConfig(family, preset).resolve(steps, has_guidance=True)
    return f"gate {config.gate:g}" + (f", sp {config.sp_interval}" if config.sp_interval > 1 else "")


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
class TestPresets:
    """The READMEs' tables of settings say what the presets do."""

    def test_by_steps(self, name: str) -> None:
        rows = re.findall(r"^\| (\d+) \|(.*gate.*)\|$", text_of(REPO / name), re.MULTILINE)
        assert [int(steps) for steps, _ in rows] == [4, 8, 15, 20, 25, 30, 50]
        for steps, cells in rows:
            told = [cell.strip() for cell in cells.split("|")]
            assert told == [setting_of(family, int(steps)) for family in PRESET_COLUMNS]
            for other, same in OTHER_NAMES.items():
                assert setting_of(other, int(steps)) == setting_of(same, int(steps))

    @pytest.mark.parametrize("preset", PRESETS)
    def test_at_25_steps(self, name: str, preset: PresetName) -> None:
        (cells,) = re.findall(rf"^\|[^|]*`{preset}`[^|]*\|( gate .*)\|$", text_of(REPO / name), re.MULTILINE)
        told = [cell.strip() for cell in cells.split("|")]
        assert told == [setting_of(family, 25, preset) for family in PRESET_COLUMNS]
