"""Finding out from its values which part of a latent a network call is given, and whether a latent has moved.

Nodes that sample in tiles cut the latent up between the sampler and the network without saying where. Their order is
no proof: some shift their tiles from step to step. But a tile's values are the latent's own, so they show the place.
Others roll the whole latent, or rotate its frames: the shape stays, the place does not.
"""

from __future__ import annotations

import torch
from torch import Tensor

# How much larger another place's correlation may be for rounding alone.
CORRELATION_ROUNDING = 1e-4
# Against division by the norm of what is zero, or the same everywhere.
SMALLEST_NORM = 1e-12


def is_same(one: Tensor, other: Tensor) -> bool:
    """Whether two latents, (B, C, ...), hold the same values; reads the device unless they are one tensor."""
    if one is other:
        return True
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other.to(one.device))


def is_in_place(now: Tensor, before: Tensor) -> bool:
    """Whether a latent still lies where it lay one evaluation ago, going by its correlation with itself.

    From one evaluation to the next most of a latent stays. So each of its rows (pictures, or frames of a clip) is most
    like the same row before, and most like it without a shift: both are read off the correlations, those of all
    shifts at once by the Fourier transform. A latent of which too little stays counts as moved.

    Reads the device once.

    Args:
        now: (B, C, H, W), or any number of dimensions behind the channels.
        before: the same shape.
    """
    spatial = tuple(range(2, now.ndim))
    ours, theirs = (_normalised(latent, spatial) for latent in (now, before.to(now.device)))
    rows = ours.flatten(1) @ theirs.flatten(1).T
    spectrum = (torch.fft.rfftn(ours, dim=spatial) * torch.fft.rfftn(theirs, dim=spatial).conj()).sum(dim=1)
    shifts = torch.fft.irfftn(spectrum, s=ours.shape[2:], dim=tuple(range(1, now.ndim - 1))).flatten(1)
    unmoved = rows.diagonal() + CORRELATION_ROUNDING
    return bool(((unmoved >= rows.amax(dim=1)) & (unmoved >= shifts.amax(dim=1))).all())


def _normalised(latent: Tensor, spatial: tuple[int, ...]) -> Tensor:
    """Each row of a latent, (B, C, ...), without the means of its channels and of norm 1."""
    centred = latent.detach().float()
    centred = centred - centred.mean(dim=spatial, keepdim=True)
    norms = torch.linalg.vector_norm(centred, dim=(1, *spatial), keepdim=True)
    normalised: Tensor = centred / norms.clamp_min(SMALLEST_NORM)
    return normalised


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
