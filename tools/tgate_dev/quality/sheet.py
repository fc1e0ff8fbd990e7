"""A sheet of pictures: the same prompts and seeds, a row for each method."""

from __future__ import annotations

from math import ceil
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from . import figures
from .records import Record

SHOWN = 5
SIDE, GAP, LABEL, FRAME = 96, 4, 200, 3  # pixels
ROWS, LONGEST = 12, 26  # rows in a column, characters in a line
WRONG = (214, 39, 40)
QUALITY = 88  # of WebP, which takes half the bytes of PNG


def draw(file: Path, pictures: dict[str, Tensor], records: dict[str, Record]) -> None:
    """Write the sheet; a picture that the judge finds wrong has a red frame.

    Args:
        file: to write.
        pictures: by method, (SHOWN or fewer, 3, height, width) from 0 to 1.
        records: by method; their first prompts are those that are shown.
    """
    columns = ceil(len(pictures) / ROWS)
    rows, width = ceil(len(pictures) / columns), LABEL + SHOWN * (SIDE + GAP) + GAP
    image = Image.new("RGB", (columns * width, rows * (SIDE + GAP) + GAP), "white")
    for number, (name, row) in enumerate(pictures.items()):
        left, top = number // rows * width, number % rows * (SIDE + GAP) + GAP
        _label(image, (left + 2 * GAP, top + SIDE // 2), records[name])
        for place, picture in enumerate(functional.interpolate(row, size=(SIDE, SIDE), mode="area")):
            corner = left + LABEL + place * (SIDE + GAP), top
            is_wrong = bool(records[name].right) and not records[name].right[place]
            _put(image, corner, picture, is_wrong)
    image.save(file, quality=QUALITY, method=6)


def _label(image: Image.Image, middle: tuple[int, int], record: Record) -> None:
    pen, name = ImageDraw.Draw(image), record.place.method
    # A long name takes two lines.
    text = name if len(name) <= LONGEST else ",\n".join(name.split(", ", 1))
    pen.multiline_text(middle, text, "black", ImageFont.load_default(15), "ld")
    x, y = middle
    detail = f"cost {record.cost:.2f}, distance {figures.mean(record.distance).value:.3f}"
    pen.text((x, y + GAP), detail, "dimgray", ImageFont.load_default(13), "la")


def _put(image: Image.Image, corner: tuple[int, int], picture: Tensor, is_wrong: bool) -> None:
    x, y = corner
    if is_wrong:
        frame = x - FRAME, y - FRAME, x + SIDE + FRAME - 1, y + SIDE + FRAME - 1
        ImageDraw.Draw(image).rectangle(frame, WRONG)
    image.paste(Image.fromarray((picture * 255).round().to(torch.uint8).movedim(0, -1).numpy()), corner)
