"""The results as tables in Markdown, one for each setting."""

from __future__ import annotations

from pathlib import Path

from . import figures
from .figures import Interval
from .records import Record, Setting

COLUMNS = "| method | cost, × plain | prompts | right, % | distance | SSIM |\n"
HEADING = f"{COLUMNS}| --- | ---: | ---: | ---: | ---: | ---: |\n"


def write(file: Path, by_setting: dict[Setting, dict[str, Record]]) -> None:
    """Write the tables, the dearest method first; intervals hold 95 %."""
    parts = ["# What `bench quality` measured\n"]
    for setting in sorted(by_setting):
        records = sorted(by_setting[setting].values(), key=lambda one: -one.cost)
        first = records[0]
        told = f"{first.pixels} × {first.pixels} pixels, {first.versions}"
        parts.append(f"## {setting}\n\n{told}\n\n{HEADING}" + "".join(map(_line, records)))
    file.write_text("\n".join(parts), encoding="utf-8", newline="\n")


def _line(record: Record) -> str:
    right = _shown(figures.share(record.right), "{:.0f}", 100) if record.right else "-"
    distance, ssim = (_shown(figures.mean(values), "{:.3f}") for values in (record.distance, record.ssim))
    return f"| {record.place.method} | {record.cost:.3f} | {len(record.distance)} | {right} | {distance} | {ssim} |\n"


def _shown(interval: Interval, form: str, unit: int = 1) -> str:
    value, low, high = (form.format(number * unit) for number in interval)
    return f"{value} ({low} – {high})"
