"""Flow matching: what the two transformers, `dit` and `joint`, have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import text, training, world
from .vae import latents

BATCH, RATE, SEED = 48, 1.5e-3, 18
SHIFT = 2.0  # of the times that are trained on, to where the noise is strong: there it is decided what is painted


def train(title: str, network: nn.Module, state: Path, steps: int) -> None:
    """Train one of the host's networks to predict the way from a scene's latents to noise.

    Args:
        title: for the progress.
        network: with its initial weights.
        state: the file that an interrupted training is taken up from.
        steps: how many there are in all.
    """

    def loss(generator: torch.Generator, step: int) -> Tensor:
        scenes = world.draw_to_train_on(BATCH, generator)
        context = text.own_places(world.prompts_to_train_on(scenes.attributes, generator))
        even = torch.rand(BATCH, generator=generator)
        time = SHIFT * even / (1 + (SHIFT - 1) * even)
        clean = latents(scenes.pictures)
        noise = torch.randn(clean.shape, generator=generator)
        noisy = framed(torch.lerp(clean, noise, time.view(-1, 1, 1, 1)), network)
        given, time, context = (part.to(training.DEVICE) for part in (noisy, time, context))
        velocity = network(given, time, context=context, num_tokens=context.shape[1])
        error: Tensor = (velocity.reshape(noise.shape) - (noise - clean).to(training.DEVICE)).square().mean()
        return error

    training.train(title, network, loss, state, steps, RATE, SEED)


def framed(latent: Tensor, network: nn.Module) -> Tensor:
    """Latents (batch, 4, height, width) as a network takes them; one for films gets (batch, 4, 1, height, width)."""
    return latent.unsqueeze(2) if hasattr(network, "patch_temporal") else latent


def initialize(network: nn.Module, zero: tuple[str, ...]) -> None:
    """Random weights, but for those whose names end as in `zero`: so what a block adds is nothing at first."""
    for name, weight in network.named_parameters():
        weight.requires_grad_(True)
        if weight.ndim == 1:
            nn.init.constant_(weight, 1.0 if name.endswith("weight") else 0.0)
        else:
            nn.init.xavier_uniform_(weight)
        if name.endswith(zero):
            nn.init.zeros_(weight)


def config(family: Any, dimensions: int) -> Any:
    """One of the host's model configurations with the latents of `vae.latents`, and without a network of its own.

    Args:
        family: class of the configuration, which says how the model is sampled.
        dimensions: of a latent, less its channels.
    """
    from comfy.latent_formats import LatentFormat

    configuration = family({"disable_unet_model_creation": True})
    configuration.latent_format = LatentFormat()
    configuration.latent_format.latent_dimensions = dimensions
    return configuration
