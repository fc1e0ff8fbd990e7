"""The demo's table and its row of pictures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from tgate_dev.demo.report import MARGIN, Report, Variant

RED, BLUE = (255, 0, 0), (0, 0, 255)


def variant(name: str, folder: Path, seconds: list[float], color: tuple[int, int, int], **counts: float) -> Variant:
    picture = folder / f"{name}.png"
    Image.new("RGB", (128, 64), color).save(picture)
    return Variant(name, seconds, {"model_calls": 25, **counts}, picture)


@pytest.fixture
def report(tmp_path: Path) -> Report:
    plain = variant("plain", tmp_path, [10.0, 30.0, 12.0], RED, branches=50)
    kept = {"attentions_reused": 200, "peak_cache_bytes": 3 * 2**20, "macs": 2e12, "plain_macs": 4e12}
    gated = variant("balanced", tmp_path, [6.0, 5.0, 90.0], BLUE, branches=25, **kept)
    return Report({"seed": "1"}, ["A toy."], [plain, gated])


def test_rows(report: Report) -> None:
    assert report.rows() == [
        ["sampling, s", "12.00", "6.00 (0.50)"],
        ["model calls", "25", "25 (1.00)"],
        ["branches evaluated in them", "50", "25 (0.50)"],
        ["attention calls reused", "0", "200"],
        ["MACs of layers, T", "4.000", "2.000 (0.50)"],
        ["peak cache, MiB", "0.0", "3.0"],
    ]


def test_markdown_has_settings_remarks_and_rows(report: Report) -> None:
    text = report.markdown()
    assert "- seed: 1\n" in text
    assert "- A toy.\n" in text
    assert re.search(r"\| +\| +plain \| +balanced \|\n", text)
    assert re.search(r"\| sampling, s +\| 12.00 \| +6.00 \(0.50\) \|\n", text)
    assert "3 runs of each variant" in text


def test_columns_of_the_table_line_up(report: Report) -> None:
    lines = report.table().splitlines()
    assert len(lines) == len(report.rows()) + 2
    assert len({tuple(place for place, mark in enumerate(line) if mark == "|") for line in lines}) == 1


def test_saved_values_keep_every_time(report: Report, tmp_path: Path) -> None:
    report.save(tmp_path)
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == report.markdown()
    plain, gated = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))["variants"]
    assert gated["seconds"] == [6.0, 5.0, 90.0]
    assert plain["measured"]["model_calls"] == 25


def test_pictures_stand_side_by_side(report: Report, tmp_path: Path) -> None:
    report.remarks = ["A toy. " * 20]
    report.save(tmp_path)
    row = Image.open(tmp_path / "side-by-side.png")
    # Enlarged by two, the smallest whole factor that fills 256 pixels.
    assert row.width == 2 * 256 + 3 * MARGIN
    colors = [row.getpixel((MARGIN + offset, 60)) for offset in (1, 254, 256 + MARGIN + 1, 256 + MARGIN + 254)]
    assert colors == [RED, RED, BLUE, BLUE]
    assert row.getpixel((1, row.height - 1)) == (255, 255, 255)
