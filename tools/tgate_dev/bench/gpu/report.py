"""The tables of `bench gpu`, the targets they are held to, and a chart."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..timing.results import as_json, as_markdown
from .records import Table

# At most so much of the oracle's time for a gated step, and of the plain one's for a step that captures.
GATED_STEP, CAPTURING_STEP = 1.03, 1.01
# So many times as fast as plain at least, by the best preset.
ALONE, WITH_DEEP_CACHE = 1.9, 3.4
TIMED_WHOLE = ("sdxl-fp16", "sdxl-bf16")
APPLY, DEEP_CACHE_AND_APPLY = "TGATE Apply,", "TGATE DeepCache + Apply,"
# Heads the targets of tiny networks on a processor.
REHEARSED = "Targets (of a card; a rehearsal only shows that they are looked at)"


class Target(NamedTuple):
    """One target of a part, and whether what was measured meets it."""

    part: str
    text: str
    is_met: bool


def write(folder: Path, tables: Sequence[Table]) -> list[Target]:
    """Write all tables, as Markdown, JSON and, where matplotlib is installed, a chart; returns the targets."""
    measured = [table for table in tables if table.rows]
    found = [target for table in measured for target in targets(table)]
    lines = [f"- {target.part}: {'met' if target.is_met else 'MISSED'}: {target.text}\n" for target in found]
    failed = [f"- {table.settings['part']}: {name}: {why}\n" for table in tables for name, why in table.failed.items()]
    texts = [as_markdown(table.settings, [*table.rows.values()]) for table in measured]
    titled = {REHEARSED if any(table.settings["rehearsed"] for table in tables) else "Targets": lines, "Failed": failed}
    texts += [f"{title}:\n\n{''.join(told)}" for title, told in titled.items() if told]
    (folder / "gpu.md").write_text("\n".join(texts), encoding="utf-8")
    numbers = [json.loads(as_json(table.settings, [*table.rows.values()])) for table in measured]
    told = {"tables": numbers, "targets": [target._asdict() for target in found], "failed": failed}
    (folder / "gpu.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if measured and importlib.util.find_spec("matplotlib"):
        from .chart import draw

        draw(folder / "gpu.png", measured)
    return found


def targets(table: Table) -> Iterator[Target]:
    """Those of a part whose rows are there."""
    part, figures = table.settings["part"], {name: row.figures() for name, row in table.rows.items()}
    ours = {name: one for name, one in figures.items() if name.startswith("TGATE")}
    for key, what, bound in (
        ("to_oracle", "a gated step takes {:.3f} of its oracle", GATED_STEP),
        ("full_to_plain", "steps that capture take {:.3f} of plain ones", CAPTURING_STEP),
    ):
        if known := [spread.median for one in ours.values() if (spread := one[key])]:
            yield Target(part, f"{what.format(max(known))} at most, target {bound}", max(known) <= bound)
    if not part.startswith(TIMED_WHOLE):
        return
    for start, bound in ((APPLY, ALONE), (DEEP_CACHE_AND_APPLY, WITH_DEEP_CACHE)):
        if known := [
            1 / spread.median for name, one in ours.items() if name.startswith(start) and (spread := one["to_plain"])
        ]:
            text = f"{start.rstrip(',')} is {max(known):.2f} times as fast as plain, target {bound}"
            yield Target(part, text, max(known) >= bound)
