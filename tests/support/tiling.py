"""A node that samples in tiles, as packs for large pictures do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher

# Strips of columns, (start, width), of a latent that is 16 wide.
EQUAL = [(0, 8), (8, 8)]
UNEQUAL = [(0, 12), (12, 4)]
SHUFFLED = [(8, 8), (0, 8)]
# By step.
TILINGS: dict[str, Callable[[int], list[tuple[int, int]]]] = {
    "equal tiles": lambda step: EQUAL,
    "unequal tiles": lambda step: UNEQUAL,
    "order changes from step to step": lambda step: SHUFFLED if step % 2 else EQUAL,
}


def wandering(step: int) -> list[tuple[int, int]]:
    """A tile of the same ordinal and size, elsewhere at every step, and what is left of the latent."""
    start = 2 * (step % 4)
    return [(start, 8), *([(0, start)] if start else []), *([(start + 8, 8 - start)] if start < 8 else [])]


def tiled(model: ModelPatcher, strips_of_step: Callable[[int], list[tuple[int, int]]]) -> ModelPatcher:
    """A clone that samples in strips, averaged where they overlap, which may change from step to step."""
    timesteps: list[float] = []

    def wrapper(apply_model: Callable[..., torch.Tensor], arguments: dict[str, Any]) -> torch.Tensor:
        x, timestep = arguments["input"], arguments["timestep"]
        if float(timestep[0]) not in timesteps:
            timesteps.append(float(timestep[0]))
        total, weight = torch.zeros_like(x), torch.zeros_like(x)
        for start, width in strips_of_step(len(timesteps) - 1):
            columns = slice(start, start + width)
            total[..., columns] += apply_model(x[..., columns].contiguous(), timestep, **arguments["c"])
            weight[..., columns] += 1
        return total / weight

    clone = model.clone()
    clone.set_model_unet_function_wrapper(wrapper)
    return clone
