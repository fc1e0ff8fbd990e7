"""The VAE of the host's TAESD class: an encoder that is written down, and a decoder that is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import training, world

FACTOR = 8  # pixels to a latent, in both directions
# Of block averages of red, green, blue and the largest of the three, over drawn scenes.
MEAN = (0.269, 0.237, 0.230, 0.307)
DEVIATION = (0.239, 0.182, 0.197, 0.270)
FULL_WIDTH, WIDTH = 64, 24  # channels of the host's class, and of the decoder that is trained inside of it
STEPS, BATCH, RATE, SEED = 2400, 16, 2e-3, 17
CROP = 64  # pixels


def latents(pictures: Tensor) -> Tensor:
    """The latents, an exact function of the picture, so that a network's training need not wait for a VAE's.

    Block averages of the colours, and of the largest of them, which shows a shape whatever its colour.

    Args:
        pictures: (batch, 3, height, width), from 0 to 1.

    Returns:
        (batch, 4, height / 8, width / 8), with a mean of 0 and a deviation of 1.
    """
    blocks = functional.avg_pool2d(torch.cat([pictures, pictures.amax(1, keepdim=True)], 1), FACTOR)
    mean, deviation = (blocks.new_tensor(values).view(-1, 1, 1) for values in (MEAN, DEVIATION))
    return (blocks - mean) / deviation


def encoder() -> Any:
    """The host's encoder with weights that compute `latents`."""
    from comfy.taesd.taesd import Encoder

    network: Any = Encoder()
    for weight in network.parameters():
        nn.init.zeros_(weight)
    red, green, blue, most = range(4)
    for channel in (red, green, blue):
        network[0].weight.data[channel, channel, 1, 1] = 1.0
    # max(a, b) = a + relu(b - a): first of red and green, then with blue; `most` holds what is to be added.
    first, _, second, _, third = network[1].conv
    _connect(first, {(red, red): 1.0, (blue, blue): 1.0, (most, green): 1.0, (most, red): -1.0})
    _connect(second, {(red, red): 1.0, (red, most): 1.0, (most, blue): 1.0, (most, red): -1.0, (most, most): -1.0})
    _connect(third, {(most, red): 1.0, (most, most): 1.0})
    for halving in (network[2], network[6], network[10]):
        for channel in range(4):
            halving.weight.data[channel, channel, 1:, 1:] = 0.25
    last = network[14]
    _connect(last, {(channel, channel): 1 / DEVIATION[channel] for channel in range(4)})
    last.bias.data[:] = -torch.tensor(MEAN) / torch.tensor(DEVIATION)
    return network


def _connect(layer: nn.Conv2d, weights: dict[tuple[int, int], float]) -> None:
    for (output, source), weight in weights.items():
        layer.weight.data[output, source, 1, 1] = weight


def decoder(width: int = WIDTH) -> nn.Sequential:
    """The host's decoder with `width` channels; for its own class, `FULL_WIDTH`."""
    from comfy.taesd.taesd import Block, Clamp, conv

    def doubling() -> list[nn.Module]:
        blocks = [Block(width, width) for _ in range(3)]
        return [*blocks, nn.Upsample(scale_factor=2), conv(width, width, bias=False)]

    last = [Block(width, width), conv(width, 3)]
    return nn.Sequential(Clamp(), conv(4, width), nn.ReLU(), *doubling(), *doubling(), *doubling(), *last)


def filled_up(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the decoder at full width: the channels beyond those that were trained stay 0."""
    full = {name: torch.zeros_like(weight) for name, weight in decoder(FULL_WIDTH).state_dict().items()}
    for name, weight in weights.items():
        full[name][tuple(slice(size) for size in weight.shape)] = weight
    return full


def train(state: Path) -> nn.Sequential:
    """A decoder, trained from nothing or from where `state` left off."""
    torch.manual_seed(SEED)
    network = decoder()
    for name, weight in network.named_parameters():
        if name.endswith("weight"):
            nn.init.kaiming_normal_(weight, nonlinearity="relu")
            weight.data *= 0.1 if name.endswith("conv.4.weight") else 1.0
        else:
            nn.init.zeros_(weight)

    def loss(generator: torch.Generator, step: int) -> Tensor:
        pictures = world.draw(BATCH, generator).pictures
        left, top = torch.randint((world.SIZE - CROP) // FACTOR + 1, (2,), generator=generator).mul(FACTOR).tolist()
        pictures = pictures[:, :, top : top + CROP, left : left + CROP]
        noise = 0.1 * torch.rand(BATCH, 1, 1, 1, generator=generator)
        clean = latents(pictures)
        decoded = network((clean + noise * torch.randn(clean.shape, generator=generator)).to(training.DEVICE))
        error: Tensor = (decoded - pictures.to(training.DEVICE)).abs().mean()
        return error

    training.train("Training the VAE's decoder", network, loss, state, STEPS, RATE, SEED)
    return network
