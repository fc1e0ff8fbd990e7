"""The text encoder: a CLIP-L from a seed whose blocks add nothing, so that each token at each place has one vector."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

VOCABULARY, PLACES, WIDTH = 49_408, 77, 768
START, END = 49_406, 49_407
TOKENS = {
    "red": 736,
    "green": 1901,
    "blue": 1746,
    "yellow": 4481,
    "purple": 5496,
    "pink": 3360,
    "orange": 4287,
    "white": 1579,
    "circle": 7117,
    "square": 3999,
    "triangle": 14615,
    "cross": 3417,
    "ring": 2540,
    "bar": 2411,
    "left": 1823,
    "of": 539,
    "above": 4348,
}
# The longest prompt with its start and end. All later places have one vector in common, so that what pads a text can
# be seen as a single place that weighs as much as all of them.
OWN_PLACES = 8
PADDING = PLACES - OWN_PLACES
SEED = 1500


@functools.cache
def embeddings() -> tuple[Tensor, Tensor]:
    """The encoder's two tables in half precision: tokens (49408, 768) and places (77, 768)."""
    generator = torch.Generator().manual_seed(SEED)
    tokens = torch.randn(VOCABULARY, WIDTH, generator=generator)
    places = torch.randn(OWN_PLACES + 1, WIDTH, generator=generator)
    return tokens.half(), places[[*range(OWN_PLACES), *[OWN_PLACES] * PADDING]].half()


def conditioning(prompts: list[str]) -> Tensor:
    """What CLIPTextEncode makes of prompts of the world, less the repeated padding: (prompts, 9, 768)."""
    tokens, places = (table.float() for table in _own_embeddings())
    rows = torch.stack([tokens[_indices(prompt)] for prompt in prompts]) + places
    return torch.nn.functional.layer_norm(rows, (WIDTH,))


def padded(condition: Tensor) -> Tensor:
    """The conditioning as the host has it: (batch, 9, 768) to (batch, 77, 768)."""
    return torch.cat([condition, condition[:, -1:].expand(-1, PADDING - 1, -1)], 1)


@functools.cache
def _own_embeddings() -> tuple[Tensor, Tensor]:
    tokens, places = embeddings()
    return tokens[[START, END, *TOKENS.values()]], places[: OWN_PLACES + 1]


def _indices(prompt: str) -> list[int]:
    names = list(TOKENS)
    words = [2 + names.index(word) for word in prompt.split()]
    return [0, *words, *[1] * (OWN_PLACES - len(words))]
