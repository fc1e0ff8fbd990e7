"""The trained networks as files in the repository: 8 bits a weight, and a scale a row."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

FOLDER = Path(__file__).with_name("weights")
SCALE = ".scale"
LARGEST = 127


def save(name: str, weights: dict[str, Tensor]) -> None:
    """Write a network's weights; those of one dimension, which are few, in half precision."""
    kept = {}
    for key, weight in weights.items():
        if weight.ndim == 1:
            kept[key] = weight.half()
        else:
            scale = weight.flatten(1).abs().amax(1).clamp(min=1e-8) / LARGEST
            rows = (-1, *[1] * (weight.ndim - 1))
            kept[key], kept[key + SCALE] = (weight / scale.view(rows)).round().to(torch.int8), scale
    FOLDER.mkdir(exist_ok=True)
    save_file({key: weight.contiguous() for key, weight in kept.items()}, FOLDER / f"{name}.safetensors")


def load(name: str) -> dict[str, Tensor]:
    """A network's weights, in single precision."""
    kept = load_file(FOLDER / f"{name}.safetensors")
    return {
        key: weight * kept[key + SCALE].view(-1, *[1] * (weight.ndim - 1)) if key + SCALE in kept else weight.float()
        for key, weight in kept.items()
        if not key.endswith(SCALE)
    }
