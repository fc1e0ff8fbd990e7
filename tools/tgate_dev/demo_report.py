"""What the demo found, as a table and as a pair of pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from PIL import Image, ImageDraw, ImageFont

MARGIN = 12
FONT_SIZE = 15
LINE_HEIGHT = 20
SMALLEST_PICTURE = 512
TEXT_COLOR = "#202020"
PAPER = "white"


@dataclass
class Variant:
    """One way of running the workflow.

    Attributes:
        name: as the table calls it.
        sampling_seconds: of the sampler, of each timed run.
        prompt_seconds: of everything that ran again (not the loaders), of each timed run.
        measured: what the meter counted in a run of its own.
        picture: the picture it made.
    """

    name: str
    sampling_seconds: list[float] = field(default_factory=list)
    prompt_seconds: list[float] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict)
    picture: Path = Path()

    @property
    def attention_skipped(self) -> int:
        """Attention modules that were handed a capture instead of running."""
        return int(self.measured["tgate"].get("attention_skipped", 0))

    @property
    def peak_cache_mib(self) -> float:
        """Most captures held at once."""
        return float(self.measured["tgate"].get("peak_cache_bytes", 0)) / 2**20


@dataclass
class Report:
    """Everything the demo found.

    Attributes:
        settings: what was run, by what it is called in the report.
        remarks: what the reader has to know before reading anything into it.
        plain: the workflow with T-GATE's nodes bypassed.
        gated: the workflow as it is.
    """

    settings: dict[str, str]
    remarks: list[str]
    plain: Variant
    gated: Variant

    def rows(self) -> list[tuple[str, str, str, str]]:
        """The table: what, plain, T-GATE, and the second as a share of the first."""
        plain, gated = self.plain, self.gated
        return [
            _row("sampling, s", median(plain.sampling_seconds), median(gated.sampling_seconds), "{:.2f}"),
            _row("whole prompt, s", median(plain.prompt_seconds), median(gated.prompt_seconds), "{:.2f}"),
            self._measured("model calls", "model_calls"),
            self._measured("branches evaluated in them", "branches"),
            self._measured("attention calls made", "attention_made"),
            _row("attention calls skipped", plain.attention_skipped, gated.attention_skipped, "{:d}"),
            self._measured("MACs of layers, T", "layer_macs", 1e-12),
            self._measured("MACs within attention, T", "attention_macs", 1e-12),
            _row("peak cache, MiB", plain.peak_cache_mib, gated.peak_cache_mib, "{:.1f}"),
        ]

    def markdown(self) -> str:
        """The report for people."""
        lines = ["# T-GATE demo", ""]
        lines += [f"- {name}: {value}" for name, value in self.settings.items()]
        lines += [f"- {remark}" for remark in self.remarks]
        lines += ["", f"| | {self.plain.name} | {self.gated.name} | ratio |", "| --- | ---: | ---: | ---: |"]
        lines += [f"| {' | '.join(row)} |" for row in self.rows()]
        rounds = len(self.plain.sampling_seconds)
        times = "once" if rounds == 1 else f"{rounds} times"
        lines += [
            "",
            f"Seconds: each variant was timed {times}, in turns, models already loaded; medians. Counts: from "
            "one more run of each, the same but slower for being counted. MACs of layers are those of linear and "
            "convolution layers, which is what the published tables count.",
        ]
        return "\n".join(lines) + "\n"

    def text_table(self) -> str:
        """The table for a terminal."""
        rows = [("", self.plain.name, self.gated.name, "ratio"), *self.rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        return "\n".join(
            "  ".join([row[0].ljust(widths[0]), *(row[column].rjust(widths[column]) for column in (1, 2, 3))]).rstrip()
            for row in rows
        )

    def json(self) -> str:
        """The report for programs."""
        return json.dumps(asdict(self), indent=2, default=lambda path: path.name) + "\n"

    def _measured(self, title: str, name: str, scale: float | None = None) -> tuple[str, str, str, str]:
        plain, gated = self.plain.measured[name], self.gated.measured[name]
        if scale is None:
            return _row(title, plain, gated, "{:d}")
        return _row(title, plain * scale, gated * scale, "{:.3f}")


def _row(title: str, plain: float, gated: float, form: str) -> tuple[str, str, str, str]:
    ratio = f"{gated / plain:.2f}" if plain else ""
    return title, form.format(plain), form.format(gated), ratio


def save_side_by_side(variants: Sequence[Variant], remarks: Sequence[str], path: Path) -> None:
    """Put the variants' pictures next to each other, each under its name and time, the remarks below."""
    pictures = [_enlarged(Image.open(variant.picture).convert("RGB")) for variant in variants]
    font = ImageFont.load_default(FONT_SIZE)
    width = sum(picture.width + MARGIN for picture in pictures) + MARGIN
    top = 2 * MARGIN + LINE_HEIGHT
    notes = _wrapped(remarks, width - 2 * MARGIN, font)
    height = top + max(picture.height for picture in pictures) + MARGIN + LINE_HEIGHT * len(notes) + MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    left = MARGIN
    for variant, picture in zip(variants, pictures, strict=True):
        caption = f"{variant.name}: {median(variant.sampling_seconds):.1f} s"
        draw.text((left, MARGIN), caption, TEXT_COLOR, font)
        sheet.paste(picture, (left, top))
        left += picture.width + MARGIN
    for number, line in enumerate(notes):
        draw.text((MARGIN, height - MARGIN - LINE_HEIGHT * (len(notes) - number)), line, TEXT_COLOR, font)
    sheet.save(path)


def _enlarged(picture: Image.Image) -> Image.Image:
    """Small pictures by a whole factor, so that every one of their pixels can be seen as it is."""
    factor = max(1, SMALLEST_PICTURE // picture.width)
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def _wrapped(texts: Sequence[str], width: int, font: Any) -> list[str]:
    lines: list[str] = []
    for text in texts:
        lines.append("")
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            if font.getlength(longer) <= width:
                lines[-1] = longer
            else:
                lines.append(word)
    return lines
