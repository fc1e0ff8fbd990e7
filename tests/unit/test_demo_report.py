"""The demo's table and its pair of pictures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from tgate_dev.demo.report import MARGIN, Report, Variant

RED, BLUE = (255, 0, 0), (0, 0, 255)


def variant(name: str, folder: Path, seconds: list[float], share: float, color: tuple[int, int, int]) -> Variant:
    picture = folder / f"{name}.png"
    Image.new("RGB", (256, 128), color).save(picture)
    measured = {
        "model_calls": 25,
        "branches": round(50 * share),
        "attention_made": round(400 * share),
        "layer_macs": round(4e12 * share),
        "attention_macs": round(1e12 * share),
        "tgate": {} if share == 1 else {"attentions_reused": 200, "peak_cache_bytes": 3 * 2**20},
    }
    return Variant(name, seconds, [second + 1 for second in seconds], measured, picture)


@pytest.fixture
def report(tmp_path: Path) -> Report:
    plain = variant("plain", tmp_path, [10.0, 30.0, 12.0], 1, RED)
    gated = variant("TGATE Apply", tmp_path, [6.0, 5.0, 90.0], 0.5, BLUE)
    return Report({"seed": "1"}, ["Random weights."], plain, gated)


def test_rows(report: Report) -> None:
    assert report.rows() == [
        ("sampling, s", "12.00", "6.00", "0.50"),
        ("whole prompt, s", "13.00", "7.00", "0.54"),
        ("model calls", "25", "25", "1.00"),
        ("branches evaluated in them", "50", "25", "0.50"),
        ("attention calls made", "400", "200", "0.50"),
        ("attention calls reused", "0", "200", ""),
        ("MACs of layers, T", "4.000", "2.000", "0.50"),
        ("MACs within attention, T", "1.000", "0.500", "0.50"),
        ("peak cache, MiB", "0.0", "3.0", ""),
    ]


def test_markdown_has_settings_remarks_and_rows(report: Report) -> None:
    text = report.markdown()
    assert "- seed: 1\n" in text
    assert "- Random weights.\n" in text
    assert re.search(r"\| +\| +plain \| TGATE Apply \| ratio \|\n", text)
    assert re.search(r"\| sampling, s +\| 12.00 \| +6.00 \| +0.50 \|\n", text)
    assert "3 timed runs of each variant" in text


def test_columns_of_the_table_line_up(report: Report) -> None:
    lines = report.table().splitlines()
    assert len(lines) == len(report.rows()) + 2
    assert len({tuple(place for place, mark in enumerate(line) if mark == "|") for line in lines}) == 1


def test_saved_values_keep_every_time(report: Report, tmp_path: Path) -> None:
    report.save(tmp_path)
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == report.markdown()
    values = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    assert values["gated"]["sampling_seconds"] == [6.0, 5.0, 90.0]
    assert values["plain"]["measured"]["model_calls"] == 25


def test_pictures_stand_side_by_side(report: Report, tmp_path: Path) -> None:
    report.remarks = ["Random weights. " * 20]
    report.save(tmp_path)
    pair = Image.open(tmp_path / "side-by-side.png")
    # Enlarged by two, the smallest whole factor that fills 512 pixels.
    assert pair.width == 2 * 512 + 3 * MARGIN
    colors = [pair.getpixel((MARGIN + offset, 60)) for offset in (1, 510, 512 + MARGIN + 1, 512 + MARGIN + 510)]
    assert colors == [RED, RED, BLUE, BLUE]
    assert pair.getpixel((1, pair.height - 1)) == (255, 255, 255)
