"""The judge: says what is on a picture, so that a person need not."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from . import training, world

SIDE = 32  # to which pictures of any size are reduced
STEPS, BATCH, RATE, SEED = 2500, 96, 2e-3, 16


class Judge(nn.Module):
    """A small classifier of the five attributes of a scene."""

    def __init__(self) -> None:
        super().__init__()

        def layer(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
            return [nn.Conv2d(inputs, outputs, 3, stride, 1), nn.GroupNorm(8, outputs), nn.SiLU()]

        layers = [*layer(3, 16, 1), *layer(16, 32, 2), *layer(32, 64, 2), *layer(64, 64, 1), *layer(64, 64, 2)]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * (SIDE // 8) ** 2, 128), nn.SiLU())
        self.heads = nn.Linear(128, sum(map(len, world.WORDS)))

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """The logits of each attribute, (batch, words) each, for pictures (batch, 3, height, width) from 0 to 1."""
        features: Tensor = self.heads(self.body(functional.adaptive_avg_pool2d(pictures, SIDE) * 2 - 1))
        return torch.split(features, [len(words) for words in world.WORDS], 1)

    @torch.no_grad()
    def attributes(self, pictures: Tensor) -> Tensor:
        """What is on pictures: (batch, 5), indices into `world.WORDS`."""
        return torch.stack([logits.argmax(1) for logits in self(pictures)], 1)

    def right(self, pictures: Tensor, attributes: Tensor) -> Tensor:
        """Which pictures show all five attributes: (batch,)."""
        return (self.attributes(pictures) == attributes).all(1)


def train(state: Path) -> Judge:
    """A judge, trained from nothing or from where `state` left off."""
    torch.manual_seed(SEED)
    judge = Judge()

    def loss(generator: torch.Generator, step: int) -> Tensor:
        scenes = world.draw(BATCH, generator)
        logits = judge(worn(scenes.pictures, generator).to(training.DEVICE))
        pairs = zip(logits, scenes.attributes.T.to(training.DEVICE), strict=True)
        return torch.stack([functional.cross_entropy(*pair) for pair in pairs]).sum()

    training.train("Training the judge", judge, loss, state, STEPS, RATE, SEED)
    return judge


def worn(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Pictures as a network may paint them: soft, noisy, paler or brighter; reduced to the judge's size."""

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(len(pictures), 1, 1, 1, generator=generator)

    small = functional.adaptive_avg_pool2d(pictures, SIDE)
    blurred = functional.avg_pool2d(functional.pad(small, (1, 1, 1, 1), mode="replicate"), 3, 1)
    soft = torch.lerp(small, blurred, between(0.0, 0.6))
    noise = torch.randn(small.shape, generator=generator) * between(0.0, 0.08)
    return ((soft - 0.4) * between(0.75, 1.15) + 0.4 + between(-0.06, 0.06) + noise).clamp(0, 1)


def share_right(judge: Judge, count: int = 2000) -> float:
    """How many drawn scenes that it has not seen a judge gets right in all five attributes, from 0 to 1."""
    scenes = world.draw(count, torch.Generator().manual_seed(world.UNSEEN_SEED))
    return judge.right(scenes.pictures, scenes.attributes).float().mean().item()
