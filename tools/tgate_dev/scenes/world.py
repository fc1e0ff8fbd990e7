"""The world: two coloured shapes, one left of or above the other, on a dark ground; 4,608 prompts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

COLOURS = {
    "red": (0.95, 0.1, 0.1),
    "green": (0.1, 0.85, 0.15),
    "blue": (0.15, 0.3, 1.0),
    "yellow": (1.0, 0.9, 0.1),
    "purple": (0.75, 0.15, 0.95),
    "pink": (1.0, 0.5, 0.75),
    "orange": (1.0, 0.5, 0.05),
    "white": (0.95, 0.95, 0.95),
}
SHAPES = ("circle", "square", "triangle", "cross", "ring", "bar")
RELATIONS = ("left of", "above")
# Colour and shape of the first object, relation, colour and shape of the second.
WORDS = (tuple(COLOURS), SHAPES, RELATIONS, tuple(COLOURS), SHAPES)
SIZE = 128  # of a picture, in pixels
PROMPTS = torch.cartesian_prod(*(torch.arange(len(words)) for words in WORDS))
# Some 200 prompts, spread over all words, that no network is trained on.
IS_HELD_OUT = PROMPTS @ torch.tensor([1, 2, 3, 5, 7]) % 23 == 0
DROPPED = 0.1  # share of prompts, so that there is guidance
MEASURING_SEED, UNSEEN_SEED = 15_000_000, 15_000_001


@dataclass(frozen=True)
class Scenes:
    """A batch: pictures (batch, 3, size, size) from 0 to 1, and what is on them (batch, 5), indices into `WORDS`."""

    pictures: Tensor
    attributes: Tensor


def prompt(attributes: Tensor) -> str:
    """What to say for one scene, such as 'red circle left of blue square'; `attributes` (5,)."""
    return " ".join(words[int(index)] for words, index in zip(WORDS, attributes, strict=True))


def draw(count: int, generator: torch.Generator, size: int = SIZE) -> Scenes:
    """Draw scenes at random, with soft edges one pixel wide; `size` in pixels."""
    attributes = torch.stack([torch.randint(len(words), (count,), generator=generator) for words in WORDS], 1)
    return draw_these(attributes, generator, size)


def draw_to_train_on(count: int, generator: torch.Generator, size: int = SIZE) -> Scenes:
    """Draw scenes at random, without the prompts that are held out for measuring."""
    kept = PROMPTS[~IS_HELD_OUT]
    return draw_these(kept[torch.randint(len(kept), (count,), generator=generator)], generator, size)


def prompts_to_train_on(attributes: Tensor, generator: torch.Generator) -> list[str]:
    """What to say for scenes, `attributes` (batch, 5); of some nothing at all."""
    dropped = torch.rand(len(attributes), generator=generator) < DROPPED
    return ["" if drop else prompt(row) for drop, row in zip(dropped, attributes, strict=True)]


def draw_these(attributes: Tensor, generator: torch.Generator, size: int = SIZE) -> Scenes:
    """Draw scenes with given attributes, (batch, 5), at places and in sizes that vary."""
    count = len(attributes)

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    pictures = between(0.05, 0.3).view(-1, 1, 1, 1).expand(-1, 3, size, size)
    palette = torch.tensor(list(COLOURS.values()))
    axis = (torch.arange(size) + 0.5) / size
    for place, colours, shapes in ((0.25, *attributes.T[:2]), (0.75, *attributes.T[3:])):
        along, across, radius = between(place - 0.04, place + 0.04), between(0.34, 0.66), between(0.165, 0.215)
        is_row = attributes[:, 2] == 0
        x, y = (torch.where(is_row, *pair).view(-1, 1, 1) for pair in ((along, across), (across, along)))
        right, down = (axis - x).expand(-1, size, size), (axis.view(-1, 1) - y).expand(-1, size, size)
        outside = torch.empty(count, size, size)
        for shape in range(len(SHAPES)):
            chosen = shapes == shape
            outside[chosen] = distance(shape, right[chosen], down[chosen], radius[chosen].view(-1, 1, 1))
        cover = (0.5 - size * outside).clamp(0, 1).unsqueeze(1)
        pictures = torch.lerp(pictures, palette[colours].view(-1, 3, 1, 1), cover)
    return Scenes(pictures, attributes)


def distance(shape: int, x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """How far points lie outside a shape around the origin, negative within; all in parts of the picture's side."""
    name, wide, high = SHAPES[shape], x.abs(), y.abs()
    if name == "circle":
        return torch.hypot(x, y) - radius
    if name == "ring":
        return (torch.hypot(x, y) - 0.75 * radius).abs() - 0.25 * radius
    if name == "square":
        return torch.maximum(wide, high) - 0.85 * radius
    if name == "bar":
        return torch.maximum(wide - radius, high - 0.36 * radius)
    if name == "cross":
        thin = 0.3 * radius
        return torch.minimum(torch.maximum(wide - thin, high - radius), torch.maximum(wide - radius, high - thin))
    # The triangle: its base below, its sides leaning by 1.75 down to 1 across.
    sides = (1.75 * wide - y - 0.95 * radius) / (1 + 1.75**2) ** 0.5
    return torch.maximum(y - 0.8 * radius, sides)


def measuring_set(count: int, size: int = SIZE) -> tuple[Tensor, Tensor]:
    """Attributes (count, 5) and noise (count, 4, size / 8, size / 8) to measure on, the same ones each time.

    No network is trained on these prompts; from 205 on they come again, with other noise.
    """
    generator = torch.Generator().manual_seed(MEASURING_SEED)
    held_out = PROMPTS[IS_HELD_OUT]
    order = torch.randperm(len(held_out), generator=generator)
    attributes = held_out[order.repeat(count // len(order) + 1)[:count]]
    return attributes, torch.randn(count, 4, size // 8, size // 8, generator=generator)
