"""The text encoder: a CLIP-L from a seed whose blocks add nothing, so that each token at each place has one vector."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from . import world

VOCABULARY, PLACES, WIDTH = 49_408, 77, 768
START, END = 49_406, 49_407
NUMBERS = (736, 1901, 1746, 4481, 5496, 3360, 4287, 1579, 7117, 3999, 14615, 3417, 2540, 2411, 1823, 539, 4348)
WORDS = list(dict.fromkeys(" ".join(word for words in world.WORDS for word in words).split()))
TOKENS = dict(zip(WORDS, NUMBERS, strict=True))
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


def own_places(prompts: list[str]) -> Tensor:
    """What CLIPTextEncode makes of prompts of the world, less all that pads them beyond: (prompts, 8, 768)."""
    return conditioning(prompts)[:, :OWN_PLACES]


def padded(condition: Tensor) -> Tensor:
    """The conditioning as the host has it: (batch, 9, 768) to (batch, 77, 768)."""
    return torch.cat([condition, condition[:, -1:].expand(-1, PADDING - 1, -1)], 1)


@functools.cache
def _own_embeddings() -> tuple[Tensor, Tensor]:
    tokens, places = embeddings()
    return tokens[[START, END, *TOKENS.values()]], places[: OWN_PLACES + 1]


def _indices(prompt: str) -> list[int]:
    words = [2 + WORDS.index(word) for word in prompt.split()]
    return [0, *words, *[1] * (OWN_PLACES - len(words))]
