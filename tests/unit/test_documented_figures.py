"""Figures and settings in the documents are those of the code, of a benchmark's table, or of the paper."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from documents import DOCS, REPO, cells_of, supported_models, table_lines, tables, text_of

from tgate_core.engine.steps import round_half_up
from tgate_core.presets import BUDGETS, PresetConfig, PresetName
from tgate_dev.bench.published import PUBLISHED_ROWS

README = text_of(REPO / "README.md")


def published_table(text: str) -> list[tuple[str, ...]]:
    """Rows of the settings guide's table of published runs, without its heading."""
    rows = [tuple(cells_of(line)) for line in table_lines(text)]
    return [row for row in rows if len(row) == 8 and row[4][:1].isdigit()]


@pytest.mark.parametrize("language", ["", ".zh"])
def test_published_figures_are_those_that_are_counted(language: str) -> None:
    """Each row of the settings guide is one that `bench macs` holds the pack against."""
    rows = published_table(text_of(DOCS / f"settings{language}.md"))
    known = [(row.run["steps"], row.tera_macs, row.schedule) for row in PUBLISHED_ROWS]
    assert len(rows) == 30
    for name, steps, gate, sp, macs, *_ in rows:
        schedules = [schedule for *run, schedule in known if run == [int(steps), float(macs)]]
        begin = "plain" if gate == "-" else f"{gate}/{sp}/1/"
        assert any(schedule.startswith(begin) for schedule in schedules), f"{name}: {gate}, {sp}, {macs}"


def test_as_many_published_figures_are_counted_as_the_benchmarks_say() -> None:
    assert f" {len(PUBLISHED_ROWS)} of these numbers " in text_of(DOCS / "benchmarks.md")


PRESET_COLUMNS = ("sd15", "sdxl", "pixart", "generic")
OTHER_NAMES = {"sd21": "sd15", "playground-2.5": "sdxl", "svd": "sdxl"}


def setting_of(family: str, steps: int) -> str:
    config = PresetConfig(family, "as published").resolve(range(steps, -1, -1), has_guidance=True).gate
    return f"gate {config.gate:g}" + (f", sp {config.sp_interval}" if config.sp_interval > 1 else "")


@pytest.mark.parametrize("name", ["settings.md", "settings.zh.md"])
class TestPresets:
    """The settings guide says what the presets do."""

    def test_by_steps(self, name: str) -> None:
        rows = re.findall(r"^\| (\d+) \|(.*gate.*)\|$", text_of(DOCS / name), re.MULTILINE)
        assert [int(steps) for steps, _ in rows] == [4, 8, 15, 20, 25, 30, 50]
        for steps, cells in rows:
            assert cells_of(cells) == [setting_of(family, int(steps)) for family in PRESET_COLUMNS]
            for other, same in OTHER_NAMES.items():
                assert setting_of(other, int(steps)) == setting_of(same, int(steps))

    @pytest.mark.parametrize("preset", BUDGETS)
    def test_budgets(self, name: str, preset: PresetName) -> None:
        (cells,) = re.findall(rf"^\| `{preset}` \|(.* % .*)\|$", text_of(DOCS / name), re.MULTILINE)
        *shares, running = cells_of(cells)
        budget = BUDGETS[preset]
        kinds = (budget.share, budget.with_flow, budget.with_noise, budget.without_forecast)
        assert shares == [f"{100 * one:.0f} %" for one in kinds]
        sigmas = [14.6 * 0.8**step for step in range(25)] + [0.0]
        forecast = PresetConfig("sdxl", preset).resolve(sigmas, has_guidance=True).forecast
        assert forecast is not None
        assert int(running) == len(forecast.running)


class TestReadme:
    """The README's short tables are parts of the long ones."""

    def test_savings_are_rows_of_the_table_of_models(self) -> None:
        ((*rows,),) = tables(README, "model")
        known = {(name, run, macs, saved) for name, run, _, _, _, macs, saved, *_ in supported_models()}
        assert len(rows) >= 5
        assert {tuple(row) for row in rows} <= known

    def test_savings_range_from_the_least_to_the_most(self) -> None:
        guided, few_step = [], []
        for name, run, _, _, _, _, saved, *_ in supported_models():
            if not run.endswith("cfg 1"):
                guided.append(int(saved.removesuffix(" %")))
            elif name.startswith("LCM"):
                few_step.append(int(saved.removesuffix(" %")))
        told = re.findall(r"(\d+) %\s+(?:and|to)\s+(\d+) %", README)
        assert told == [(str(min(all_of)), str(max(all_of))) for all_of in (guided, few_step)]

    def test_seconds_are_those_of_the_benchmark(self) -> None:
        timed = {cells[0]: cells[1] for cells in map(cells_of, table_lines(text_of(DOCS / "benchmarks.md")))}
        names = ("plain", "TGATE Apply, as published", "TGATE DeepCache")
        assert re.findall(r"(\d+\.\d) s\b", README) == [timed[name] for name in names]

    @pytest.mark.parametrize(
        ("settings", "group"),
        [("published", 0), ("experimental", 1), ("joint attention|inline joint attention|guidance alone", 3)],
    )
    def test_every_model_is_named_in_its_group(self, settings: str, group: int) -> None:
        ((*groups,),) = tables(README, "")
        rows = [name for name, _, kind, *_ in supported_models() if kind in settings.split("|")]
        assert set(groups[group][1].split(", ")) == {name for row in rows for name in row.split(", ")}


NODES = ("TGATEApply", "TGATEApplyAdvanced", "TGATEDeepCache", "TGATEForecast")
IN_WORDS = {"": {True: "on", False: "off"}, ".zh": {True: "开", False: "关"}}
FIRST_HEADING = {"": "input", ".zh": "输入"}


@pytest.mark.parametrize("language", ["", ".zh"])
class TestInputs:
    """The nodes' document has a row for each input of the nodes that change a model, with its default."""

    def test_all_have_a_row_with_their_default(self, language: str, pack: Any) -> None:
        documented = tables(text_of(DOCS / f"nodes{language}.md"), FIRST_HEADING[language])
        assert len(documented) == len(NODES)
        for node, rows in zip(NODES, documented, strict=True):
            inputs = [entry for entry in pack.nodes[node].define_schema().inputs if entry.id != "model"]
            expected = [(f"`{entry.id}`", self.in_words(getattr(entry, "default", None), language)) for entry in inputs]
            assert [(name, default) for name, default, _ in rows] == expected

    def test_every_choice_is_named(self, language: str, pack: Any) -> None:
        text = text_of(DOCS / f"nodes{language}.md")
        choices = [
            choice for node in NODES for entry in pack.nodes[node].define_schema().inputs
            for choice in getattr(entry, "options", None) or ()
        ]  # fmt: skip
        assert len(choices) > 10
        assert [choice for choice in choices if f"`{choice}`" not in text] == []

    @staticmethod
    def in_words(default: Any, language: str) -> str:
        if default is None:
            return ""
        if isinstance(default, bool):
            return IN_WORDS[language][default]
        return f"`{default}`" if isinstance(default, str) else f"{default:g}"


PRESETS_OF_TABLE = ("balanced", "gentle", "fast", "as published")
NETWORKS_OF_TABLE = {"UNet": "unet", "DiT": "dit", "joint": "joint"}


def tables_of_quality() -> Iterator[tuple[int, str, str, float, list[str]]]:
    """Steps, network, sampler, cfg and cells of each row of the tables of presets."""
    text = (REPO / "docs" / "quality.md").read_text(encoding="utf-8")
    for part in re.split(r"\nIn (?=\d+ steps)|\n(?=Other samplers)|\n## ", text):
        if (steps := re.match(r"(\d+) steps, of", part)) or part.startswith(("The presets", "Other samplers")):
            for row in re.findall(r"^\| (\w+), (\w+)(?:, (\d))? \| (.*) \|$", part, re.MULTILINE):
                if row[0] in NETWORKS_OF_TABLE:
                    yield int(steps[1]) if steps else 25, row[0], row[1], float(row[2] or 4), row[3].split(" | ")


def test_picture_quality_says_what_was_measured() -> None:
    lines = (REPO / "docs" / "quality" / "records.jsonl").read_text(encoding="utf-8").splitlines()
    records = {
        (one["network"], one["steps"], one["sampler"], one["cfg"], one["method"]): one
        for one in map(json.loads, lines)
        if one["half"] == "report"
    }
    rows = 0
    for steps, network, sampler, cfg, cells in tables_of_quality():
        place = NETWORKS_OF_TABLE[network], steps, sampler, cfg
        assert cells[0] == str(sum(records[(*place, "plain")]["right"]))
        for preset, cell in zip(PRESETS_OF_TABLE, cells[1:5], strict=False):
            one = records.get((*place, f"TGATE Apply, {preset}"))
            mean = one and sum(one["distance"]) / len(one["distance"])
            assert cell == (f"{one['cost']:.3f}, {mean:.3f}, {sum(one['right'])}" if one else "refused")
        rows += 1
    assert rows == 72 + 15


def test_readme_says_what_was_measured() -> None:
    text = (REPO / "docs" / "quality.md").read_text(encoding="utf-8")
    readme = (REPO / "README.md").read_text(encoding="utf-8").replace("\n", " ")
    row = text.split("| UNet, euler, 4 |")[1]
    balanced, _, fast, published, easy_cache = re.findall(r"\d\.\d+, \d\.\d+", row)[:5]
    for name, cell in (
        ("`balanced`", balanced),
        ("`fast`", fast),
        ("ComfyUI's EasyCache", easy_cache),
        ("`as published`", published),
    ):
        cost, distance = cell.split(", ")
        assert f"{name} {distance} for {round_half_up(100 * float(cost) + 1e-9)} %" in readme
