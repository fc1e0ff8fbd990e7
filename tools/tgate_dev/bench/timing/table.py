"""The results as a table in Markdown, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from .records import Row

MIB = 2**20
# Heading, format and unit of each figure.
COLUMNS = {
    "seconds": ("s a run", "{:.1f}", 1),
    "to_plain": ("× plain", "{:.3f}", 1),
    "to_oracle": ("gated step, × oracle", "{:.3f}", 1),
    "full_to_plain": ("full steps, × plain", "{:.3f}", 1),
    "cache_bytes": ("captures, MiB", "{:.1f}", MIB),
    "peak_bytes": ("peak, MiB", "{:.1f}", MIB),
}


def as_markdown(settings: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """Medians over the rounds, followed by the notes of the runs."""
    title = "{model}, {pixels} × {pixels} pixels, {steps} steps, {dtype}, {device_name}".format(**settings)
    lines = [[title, *(heading for heading, _, _ in COLUMNS.values())], ["---", *["---:"] * len(COLUMNS)]]
    for row in rows:
        told = zip(row.figures().values(), COLUMNS.values(), strict=True)
        lines.append(
            [row.name, *("-" if of is None else form.format(of.median / unit) for of, (_, form, unit) in told)]
        )
    notes = {f"\n{row.name}: {note}\n": None for row in rows for one in row.rounds for note in one.run.notes}
    return "".join([*(f"| {' | '.join(cells)} |\n" for cells in lines), *notes])


def as_json(settings: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """All raw numbers, and the figures with their spread."""
    told = []
    for row in rows:
        figures = {name: spread and spread._asdict() for name, spread in row.figures().items()}
        told.append({"name": row.name, "figures": figures, "rounds": [asdict(one) for one in row.rounds]})
    return json.dumps({"settings": dict(settings), "rows": told}, indent=1, ensure_ascii=False) + "\n"
