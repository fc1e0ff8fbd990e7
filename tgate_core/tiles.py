"""Finding out which part of a latent a tile is.

Nodes that sample in tiles cut the latent up between the sampler and the network and tell nobody where. Their order is
no proof: some shift their tiles from step to step. But a tile's values are the latent's own, so they show the place.
"""

from __future__ import annotations

import torch
from torch import Tensor


def find_tile(tile: Tensor, latent: Tensor, guess: tuple[int, ...] | None = None) -> tuple[int, ...] | None:
    """Offset of a tile within a latent, or None where it is not a plain, unique cut-out of it.

    Reads the device once where `guess` is right, twice otherwise.

    Args:
        tile: (B, C, h, w), or any number of dimensions behind the channels.
        latent: (B, C, H, W), with as many dimensions.
        guess: where the tile was in the step before.
    """
    if tile.shape[:2] != latent.shape[:2] or tile.ndim != latent.ndim:
        return None
    if any(size > full for size, full in zip(tile.shape[2:], latent.shape[2:], strict=True)):
        return None
    if guess is not None and _is_at(tile, latent, guess):
        return guess
    corner = tile[0]
    for dim in range(1, corner.ndim):
        corner = corner.narrow(dim, 0, 1)
    matches = (latent[0] == corner).all(dim=0).nonzero().tolist()
    places = [tuple(match) for match in matches if _is_at(tile, latent, tuple(match))]
    return places[0] if len(places) == 1 else None


def _is_at(tile: Tensor, latent: Tensor, offset: tuple[int, ...]) -> bool:
    for dim, (start, size) in enumerate(zip(offset, tile.shape[2:], strict=True), start=2):
        if start + size > latent.shape[dim]:
            return False
        latent = latent.narrow(dim, start, size)
    return torch.equal(tile, latent)
