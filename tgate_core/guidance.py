"""Classifier-free guidance after the gate: the difference of two predictions, kept in noise space.

A denoised prediction is D = x - sigma * eps. The guidance difference D_cond - D_uncond shrinks with sigma, while the
difference of the noises, eps_uncond - eps_cond = (D_cond - D_uncond) / sigma, changes slowly from step to step: so it
is the latter that is kept, and scaled by the sigma at hand.
"""

from __future__ import annotations

from torch import Tensor

from .tensors import detached, widened


def noise_space_difference(cond: Tensor, uncond: Tensor, sigma: float) -> Tensor:
    """Guidance difference of one call, free of its noise level.

    Args:
        cond: denoised prediction of the cond branch, latent shape (B, C, ...).
        uncond: denoised prediction of the uncond branch, same shape.
        sigma: noise level of that call, above 0.

    Returns:
        The difference, same shape, in fp32 at least: half precision has no room for what a small sigma makes of it.
    """
    return (widened(detached(cond)) - detached(uncond)) / sigma


def uncond_from_difference(cond: Tensor, difference: Tensor, sigma: float) -> Tensor:
    """The uncond prediction that the kept difference implies for a call that ran the cond branch alone.

    Args:
        cond: denoised prediction of the cond branch, latent shape (B, C, ...).
        difference: from `noise_space_difference`, same shape.
        sigma: noise level of this call.
    """
    return (cond - difference * sigma).to(cond.dtype)
