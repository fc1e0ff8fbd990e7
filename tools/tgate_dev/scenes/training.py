"""Training that can be stopped and taken up again."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..progress import Stage

SAVE_EVERY, SHOW_EVERY = 100, 20
WARM_UP = 100
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def train(
    title: str,
    network: nn.Module,
    loss: Callable[[torch.Generator, int], Tensor],
    state: Path,
    steps: int,
    rate: float,
    seed: int,
) -> None:
    """Train a network and leave it with the moving average of its weights.

    Args:
        title: for the progress.
        network: with its initial weights; on the CPU again when it is trained.
        loss: of one batch, drawn with a generator on the CPU and computed on `DEVICE`, at a step.
        state: the file that an interrupted training is taken up from.
        steps: how many there are in all.
        rate: the highest learning rate, which falls to nothing as half a cosine.
        seed: of all batches.
    """
    network.to(DEVICE)
    optimizer = torch.optim.AdamW(network.parameters(), rate, betas=(0.9, 0.98), weight_decay=1e-3)
    average = {name: value.clone() for name, value in network.state_dict().items()}
    generator, start, mean = torch.Generator().manual_seed(seed), 0, math.nan
    if state.is_file():
        saved = torch.load(state, map_location="cpu", weights_only=True)
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        generator.set_state(saved["generator"])
        average = {name: value.to(DEVICE) for name, value in saved["average"].items()}
        start, mean = saved["step"], saved["loss"]
    network.train()
    with Stage(title) as stage:
        for step in range(start, steps):
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1, (step + 1) / WARM_UP, 0.5 + 0.5 * math.cos(math.pi * step / steps))
            value = loss(generator, step)
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            mean = value.item() if math.isnan(mean) else 0.98 * mean + 0.02 * value.item()
            share = min(0.995, step / (step + 10))
            for name, tensor in network.state_dict().items():
                average[name] = torch.lerp(average[name], tensor, 1 - share) if tensor.is_floating_point() else tensor
            stage.update(f"step {step + 1} of {steps}, loss {mean:.4f}")
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
                saved = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "average": average}
                _save(state, {**saved, "generator": generator.get_state(), "step": step + 1, "loss": mean})
    network.load_state_dict(average)
    network.cpu().eval()


def _save(state: Path, values: dict[str, Any]) -> None:
    """Write a state; one that was there before stays until this one is whole."""
    state.parent.mkdir(parents=True, exist_ok=True)
    new = state.with_suffix(".new")
    torch.save(values, new)
    new.replace(state)
