"""A drawing surface in logical pixels, drawn larger and scaled down so that lines and text are smooth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]
Point = tuple[float, float]
Box = tuple[float, float, float, float]
Anchor = Literal["la", "ma", "ra", "lm", "mm", "rm"]  # as Pillow has it: left, middle, right; ascender, middle

OVERSAMPLING = 2

# Told apart by people with any kind of colour vision (M. Okabe and K. Ito, 2008), on a dark ground.
GROUND: Color = (30, 32, 36)
PANEL: Color = (43, 46, 52)
GRID: Color = (70, 74, 82)
TEXT: Color = (232, 234, 237)
FAINT: Color = (160, 165, 173)
BLUE: Color = (86, 180, 233)
ORANGE: Color = (230, 159, 0)
GREEN: Color = (0, 158, 115)
VIOLET: Color = (204, 121, 167)
LIGHT: Color = (206, 211, 219)


class Canvas:
    """Draws on a picture of `width` x `height` logical pixels."""

    def __init__(self, width: int, height: int, ground: Color = GROUND) -> None:
        self.width, self.height = width, height
        self._image = Image.new("RGB", (width * OVERSAMPLING, height * OVERSAMPLING), ground)
        self._draw = ImageDraw.Draw(self._image)

    def rectangle(self, box: Box, color: Color, outline: Color | None = None) -> None:
        """A filled rectangle (left, top, right, bottom)."""
        left, top, right, bottom = (round(value * OVERSAMPLING) for value in box)
        edge = (left, top, max(left, right - 1), max(top, bottom - 1))
        self._draw.rectangle(edge, fill=color, outline=outline, width=OVERSAMPLING)

    def line(self, points: Sequence[Point], color: Color, width: float = 1.0) -> None:
        """A line through all points."""
        scaled = [(x * OVERSAMPLING, y * OVERSAMPLING) for x, y in points]
        self._draw.line(scaled, fill=color, width=max(1, round(width * OVERSAMPLING)), joint="curve")

    def dashed(self, start: Point, end: Point, color: Color, dash: float = 6.0) -> None:
        """A dashed line, upright or level."""
        (x0, y0), (x1, y1) = start, end
        count = max(1, int(max(abs(x1 - x0), abs(y1 - y0)) / (2 * dash)))
        for index in range(count):
            near, far = index / count, (index + 0.5) / count
            self.line(
                [(x0 + (x1 - x0) * near, y0 + (y1 - y0) * near), (x0 + (x1 - x0) * far, y0 + (y1 - y0) * far)],
                color,
                1.5,
            )

    def text(self, place: Point, text: str, color: Color = TEXT, size: float = 14, anchor: Anchor = "la") -> None:
        """One line of text; `anchor` says which of its points lies at `place`."""
        x, y = place
        font = _font(size)
        self._draw.text((x * OVERSAMPLING, y * OVERSAMPLING), text, fill=color, font=font, anchor=anchor)

    def text_width(self, text: str, size: float = 14) -> float:
        """Width of a line of text, logical pixels."""
        return self._draw.textlength(text, font=_font(size)) / OVERSAMPLING

    def wrapped(self, text: str, width: float, size: float = 14) -> list[str]:
        """The text in lines no wider than `width`, broken between words."""
        lines: list[str] = []
        for word in text.split():
            longer = f"{lines[-1]} {word}" if lines else word
            if lines and self.text_width(longer, size) <= width:
                lines[-1] = longer
            else:
                lines.append(word)
        return lines

    def finished(self) -> Image.Image:
        """The picture at its own size."""
        return self._image.resize((self.width, self.height), Image.Resampling.LANCZOS)


def label_every(least: float) -> int:
    """How many steps apart labels stand: the smallest of 1, 2, 5, 10, 20, 50 … that is at least `least`."""
    unit: int = 10 ** max(0, math.floor(math.log10(max(least, 1.0))))
    return next(unit * digit for digit in (1, 2, 5, 10) if unit * digit >= least)


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * OVERSAMPLING)
