"""Samplers and nodes of other packs under which a latent changes size, batch or place, or the network runs twice.

What they do in a step depends on its sigma alone, so that a run can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import comfy.samplers
import tiny
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

FRAMES = 4


def turn_of(sigma: Any, turns: int = 3) -> int:
    """A number from 0 to `turns` - 1, another one in most steps."""
    return int(float(torch.as_tensor(sigma).flatten()[0]) * 1000) % turns


def euler(change: Callable[[int, Tensor], Tensor], back: Callable[[int, Tensor], Tensor] | None = None) -> Any:
    """Euler's method on a latent that is changed by turns: for good, or while the model sees it and then `back`."""

    def sample(model: Any, x: Tensor, sigmas: Tensor, extra_args: Any = None, **_: Any) -> Tensor:
        for sigma, following in pairwise(sigmas):
            turn = turn_of(sigma)
            seen = change(turn, x)
            denoised = model(seen, sigma * x.new_ones([seen.shape[0]]), **(extra_args or {}))
            x, denoised = (seen, denoised) if back is None else (x, back(turn, denoised))
            x = x + (x - denoised) / sigma * (following - sigma)
        return x

    return comfy.samplers.KSAMPLER(sample)


def _resized(turn: int, x: Tensor) -> Tensor:
    return torch.nn.functional.interpolate(x, size=(8 + 4 * turn, 8), mode="nearest")


SAMPLERS = {
    "rolling": euler(lambda turn, x: x.roll(turn, -1), lambda turn, x: x.roll(-turn, -1)),
    "rotating": euler(lambda turn, x: x.roll(turn, 0), lambda turn, x: x.roll(-turn, 0)),
    "resizing": euler(_resized),
    "dropping": euler(lambda turn, x: x if turn else x[:1]),
    "plain": euler(lambda _, x: x),
}


def rotating_windows(model: ModelPatcher) -> ModelPatcher:
    """A window over the whole batch that begins at another of its frames by turns, told as AnimateDiff-Evolved does."""
    patched = model.clone()
    patched.model_options["transformer_options"]["ad_params"] = {"sub_idxs": None}

    def wrapper(executor: Any, network: Any, conds: Any, x: Tensor, timestep: Tensor, options: Any) -> list[Tensor]:
        told = options["transformer_options"]["ad_params"]
        told["sub_idxs"] = frames = [(turn_of(timestep) + n) % len(x) for n in range(len(x))]
        parts = executor(network, conds, x[frames], timestep[frames], options)
        told["sub_idxs"] = None
        return [part[[frames.index(n) for n in range(len(x))]] for part in parts]

    patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "ADE_sliding_context", wrapper)
    return patched


def reference(model: ModelPatcher) -> ModelPatcher:
    """Runs the network on another picture before the picture itself, in some of the steps."""
    patched = model.clone()

    def wrapper(executor: Any, x: Tensor, timesteps: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if turn_of(timesteps) == 0:
            executor(tiny.noise_of(9, x.shape) * 0.8, timesteps, *args, **kwargs)
        return executor(x, timesteps, *args, **kwargs)

    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "reference", wrapper)
    return patched


def twice(model: ModelPatcher) -> ModelPatcher:
    """Runs the network twice on the picture itself, first with hardly any text, in some of the steps."""
    patched = model.clone()

    def wrapper(executor: Any, x: Tensor, timesteps: Tensor, context: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if turn_of(timesteps) == 1:
            executor(x, timesteps, context * 0.1, *args, **kwargs)
        return executor(x, timesteps, context, *args, **kwargs)

    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "twice", wrapper)
    return patched


NODES = {"rotating windows": rotating_windows, "reference": reference, "network twice": twice}
