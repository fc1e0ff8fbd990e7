"""What the demo found, as a table and as a row of pictures."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image, ImageDraw, ImageFont, ImageOps

MARGIN, FONT_SIZE, LINE_HEIGHT = 12, 15, 20
SMALLEST_PICTURE = 256
# Title, name in `measured`, unit, and decimal places.
COUNTS = (
    ("model calls", "model_calls", 1, 0),
    ("branches evaluated in them", "branches", 1, 0),
    ("attention calls reused", "attentions_reused", 1, 0),
    ("MACs of layers, T", "macs", 1e12, 3),
    ("peak cache, MiB", "peak_cache_bytes", 2**20, 1),
)
EXPLANATION = (
    "Seconds: median of {runs} of each variant, in turns, models already loaded. In brackets: times plain. MACs of "
    "layers are those of linear and convolution layers, which is what the published tables count."
)


@dataclass
class Variant:
    """One way of running the workflow."""

    name: str
    seconds: list[float] = field(default_factory=list)  # of each sampling run
    measured: dict[str, Any] = field(default_factory=dict)  # counts of the last one
    picture: Path = Path()


@dataclass
class Report:
    """Everything the demo found."""

    settings: dict[str, str]  # what was run
    remarks: list[str]  # what to know before reading anything into it
    variants: list[Variant]  # plain first, then with T-GATE

    def rows(self) -> list[list[str]]:
        """The table: what, and one cell a variant."""
        plain_macs = next((one.measured["plain_macs"] for one in self.variants if "plain_macs" in one.measured), 0)
        kept = {"attentions_reused": 0, "peak_cache_bytes": 0, "macs": plain_macs}
        counts = [{**kept, **one.measured} for one in self.variants]
        return [
            _row("sampling, s", [median(one.seconds) for one in self.variants], 2),
            *(_row(title, [one[name] / unit for one in counts], places) for title, name, unit, places in COUNTS),
        ]

    def table(self) -> str:
        """The rows as a Markdown table whose columns line up."""
        rows = [["", *(one.name for one in self.variants)], *self.rows()]
        first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
        lines = [[row[0].ljust(first), *map(str.rjust, row[1:], others)] for row in rows]
        lines.insert(1, ["-" * first, *("-" * (width - 1) + ":" for width in others)])
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)

    def markdown(self) -> str:
        """The report for people."""
        facts = [*(f"{name}: {value}" for name, value in self.settings.items()), *self.remarks]
        listed = "\n".join(f"- {fact}" for fact in facts)
        rounds = len(self.variants[0].seconds)
        explanation = EXPLANATION.format(runs="one run" if rounds == 1 else f"{rounds} runs")
        return f"# T-GATE demo\n\n{listed}\n\n{self.table()}\n\n{explanation}\n"

    def save(self, folder: Path) -> None:
        """Write table.md, table.json and side-by-side.png."""
        (folder / "table.md").write_text(self.markdown(), encoding="utf-8")
        values = json.dumps(asdict(self), indent=2, default=lambda path: path.name)
        (folder / "table.json").write_text(values + "\n", encoding="utf-8")
        self._side_by_side().save(folder / "side-by-side.png")

    def _side_by_side(self) -> Image.Image:
        """All pictures, each above its name, time and cost, the remarks below."""
        pictures = [Image.open(one.picture).convert("RGB") for one in self.variants]
        # Small ones by a whole factor, so that each of their pixels can be seen.
        factor = max(1, SMALLEST_PICTURE // pictures[0].width)
        pictures = [ImageOps.scale(picture, factor, Image.Resampling.NEAREST) for picture in pictures]
        width, height = pictures[0].size
        left, step = MARGIN, width + MARGIN
        characters = 2 * len(pictures) * step // FONT_SIZE
        notes = [line for remark in self.remarks for line in textwrap.wrap(remark, characters)]
        below = height + 2 * MARGIN
        bottom = below + 2 * LINE_HEIGHT + MARGIN
        size = len(pictures) * step + MARGIN, bottom + LINE_HEIGHT * len(notes) + MARGIN
        sheet = Image.new("RGB", size, "white")
        draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_SIZE)
        for variant, picture in zip(self.variants, pictures, strict=True):
            sheet.paste(picture, (left, MARGIN))
            draw.multiline_text((left, below), f"{variant.name}\n{self._cost_of(variant)}", "#202020", font)
            left += step
        draw.multiline_text((MARGIN, bottom), "\n".join(notes), "#202020", font)
        return sheet

    def _cost_of(self, variant: Variant) -> str:
        """Time, and MACs beside those of the plain run."""
        time, counts = f"{median(variant.seconds):.1f} s", variant.measured
        return f"{time}, {counts['macs'] / counts['plain_macs']:.0%} of MACs" if "plain_macs" in counts else time


def _row(title: str, values: list[float], places: int) -> list[str]:
    plain, *gated = values
    cells = [f"{value:.{places}f}" + (f" ({value / plain:.2f})" if plain else "") for value in gated]
    return [title, f"{plain:.{places}f}", *cells]
