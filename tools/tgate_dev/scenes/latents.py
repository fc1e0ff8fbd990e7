"""The latents of a scene: an exact function of its picture, so that the UNet need not wait for a VAE."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

FACTOR = 8  # pixels to a latent, in both directions
# Of red, green, blue and the largest of the three, over drawn scenes.
MEAN = (0.269, 0.237, 0.230, 0.307)
DEVIATION = (0.239, 0.182, 0.197, 0.270)


def latents(pictures: Tensor) -> Tensor:
    """Block averages of the colours, and of the largest of them, which shows shape whatever the colour.

    Args:
        pictures: (batch, 3, height, width), from 0 to 1.

    Returns:
        (batch, 4, height / 8, width / 8), with a mean of 0 and a deviation of 1.
    """
    blocks = functional.avg_pool2d(torch.cat([pictures, pictures.amax(1, keepdim=True)], 1), FACTOR)
    mean, deviation = (blocks.new_tensor(values).view(-1, 1, 1) for values in (MEAN, DEVIATION))
    return (blocks - mean) / deviation
