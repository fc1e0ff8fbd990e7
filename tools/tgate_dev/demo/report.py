"""What the demo found, as a table and as a pair of pictures."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

MARGIN, FONT_SIZE, LINE_HEIGHT = 12, 15, 20
SMALLEST_PICTURE = 512
# Title, name in `measured`, unit, and decimal places.
COUNTS = (
    ("model calls", "model_calls", 1, 0),
    ("branches evaluated in them", "branches", 1, 0),
    ("attention calls made", "attention_made", 1, 0),
    ("attention calls reused", "attentions_reused", 1, 0),
    ("MACs of layers, T", "layer_macs", 1e12, 3),
    ("MACs within attention, T", "attention_macs", 1e12, 3),
    ("peak cache, MiB", "peak_cache_bytes", 2**20, 1),
)
EXPLANATION = (
    "Seconds: {runs} of each variant, in turns, models already loaded; medians. Counts: from one more run of each, "
    "slower for being counted. MACs of layers are those of linear and convolution layers, which is what the published "
    "tables count."
)


@dataclass
class Variant:
    """One way of running the workflow."""

    name: str
    sampling_seconds: list[float] = field(default_factory=list)  # of each timed run
    prompt_seconds: list[float] = field(default_factory=list)  # the same, with all else that ran again
    measured: dict[str, Any] = field(default_factory=dict)  # counts; T-GATE's own under "tgate"
    picture: Path = Path()


@dataclass
class Report:
    """Everything the demo found.

    Attributes:
        settings: what was run.
        remarks: what to know before reading anything into it.
        plain: the workflow with T-GATE's nodes bypassed.
        gated: the workflow as it is.
    """

    settings: dict[str, str]
    remarks: list[str]
    plain: Variant
    gated: Variant

    def rows(self) -> list[tuple[str, str, str, str]]:
        """The table: what, plain, T-GATE, and the second as a share of the first."""
        plain, gated = (
            {"attentions_reused": 0, "peak_cache_bytes": 0, **one.measured, **one.measured["tgate"]}
            for one in (self.plain, self.gated)
        )
        return [
            _row("sampling, s", median(self.plain.sampling_seconds), median(self.gated.sampling_seconds), 2),
            _row("whole prompt, s", median(self.plain.prompt_seconds), median(self.gated.prompt_seconds), 2),
            *(_row(title, plain[name] / unit, gated[name] / unit, places) for title, name, unit, places in COUNTS),
        ]

    def table(self) -> str:
        """The rows as a Markdown table whose columns line up."""
        rows = [("", self.plain.name, self.gated.name, "ratio"), *self.rows()]
        first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
        lines = [[row[0].ljust(first), *map(str.rjust, row[1:], others)] for row in rows]
        lines.insert(1, ["-" * first, *("-" * (width - 1) + ":" for width in others)])
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)

    def markdown(self) -> str:
        """The report for people."""
        facts = [*(f"{name}: {value}" for name, value in self.settings.items()), *self.remarks]
        listed = "\n".join(f"- {fact}" for fact in facts)
        rounds = len(self.plain.sampling_seconds)
        explanation = EXPLANATION.format(runs="one timed run" if rounds == 1 else f"{rounds} timed runs")
        return f"# T-GATE demo\n\n{listed}\n\n{self.table()}\n\n{explanation}\n"

    def save(self, folder: Path) -> None:
        """Write table.md, table.json and side-by-side.png."""
        (folder / "table.md").write_text(self.markdown(), encoding="utf-8")
        values = json.dumps(asdict(self), indent=2, default=lambda path: path.name)
        (folder / "table.json").write_text(values + "\n", encoding="utf-8")
        self._side_by_side().save(folder / "side-by-side.png")

    def _side_by_side(self) -> Image.Image:
        """Both pictures, each under its name and time, the remarks below."""
        variants = (self.plain, self.gated)
        pictures = [_enlarged(Image.open(variant.picture).convert("RGB")) for variant in variants]
        width, height = max(picture.width for picture in pictures), max(picture.height for picture in pictures)
        top, left = 2 * MARGIN + LINE_HEIGHT, MARGIN
        notes = [line for remark in self.remarks for line in textwrap.wrap(remark, 4 * width // FONT_SIZE)]
        bottom = top + height + MARGIN
        sheet = Image.new("RGB", (2 * width + 3 * MARGIN, bottom + LINE_HEIGHT * len(notes) + MARGIN), "white")
        draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_SIZE)
        for variant, picture in zip(variants, pictures, strict=True):
            draw.text((left, MARGIN), f"{variant.name}: {median(variant.sampling_seconds):.1f} s", "#202020", font)
            sheet.paste(picture, (left, top))
            left += width + MARGIN
        draw.multiline_text((MARGIN, bottom), "\n".join(notes), "#202020", font)
        return sheet


def _row(title: str, plain: float, gated: float, places: int) -> tuple[str, str, str, str]:
    return title, f"{plain:.{places}f}", f"{gated:.{places}f}", f"{gated / plain:.2f}" if plain else ""


def _enlarged(picture: Image.Image) -> Image.Image:
    """Small pictures by a whole factor, so that each of their pixels can be seen."""
    return ImageOps.scale(picture, max(1, SMALLEST_PICTURE // picture.width), Image.Resampling.NEAREST)
