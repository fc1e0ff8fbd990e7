"""`dev.py train`: the small networks from nothing, in ComfyUI's Python, and their figures."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ..cache import cache_root
from ..environment import PACK
from ..progress import say
from . import dit, joint, judge, painting, unet, vae, weights, world

MEASURED = {world.SIZE: 192, 2 * world.SIZE: 48}  # how many prompts, by the size of the pictures
SHEET, SHOWN, IN_A_ROW = PACK / "docs" / "images" / "scenes.png", 16, 8
# What is trained for each, by the file of its weights; the others paint through the judge and the VAE of the first.
TRAINED: dict[str, dict[str, Callable[[Path], nn.Module]]] = {
    "scenes-unet": {"judge": judge.train, "decoder": vae.train, "unet": unet.train},
    "scenes-dit": {"dit": dit.train},
    "scenes-joint": {"joint": joint.train},
}
SPOKEN = {"unet": "UNet", "dit": "DiT", "joint": "Joint attention"}


def main(arguments: Sequence[str]) -> int:
    """Train what the cache does not hold yet, write the weights into the repository, and measure them.

    Args:
        arguments: one of `TRAINED`.
    """
    sys.path.insert(0, os.environ["TGATE_COMFYUI"])
    host_options: Any = importlib.import_module("comfy.options")
    host_options.args_parsing = False
    importlib.import_module("comfy.cli_args").args.cpu = True
    torch.set_flush_denormal(True)
    states = cache_root() / "scenes" / "training"
    trained = TRAINED[arguments[0]]
    for name, train in trained.items():
        weights.save(name, train(states / f"{name}.pt").state_dict())
    measure(next(name for name in trained if name in painting.NETWORKS))
    return 0


def measure(name: str) -> None:
    """Say what the weights of the repository are worth; `name` of one of the networks that paint."""
    the_judge = painting.load_judge()
    if name == "unet":
        say(f"Judge: {judge.share_right(the_judge):.2%} of 2,000 drawn scenes right")
    model, decoder = painting.load_model(name), painting.load_decoder()
    # The other networks have seen no larger pictures.
    for size, count in MEASURED.items() if name == "unet" else [(world.SIZE, MEASURED[world.SIZE])]:
        attributes, noise = world.measuring_set(count, size)
        pictures = painting.pictures(decoder, painting.paint(model, attributes, noise))
        right = the_judge.right(pictures, attributes).float().mean().item()
        settings = f"{painting.STEPS} steps, euler, cfg {painting.CFG:g}, {size}x{size} pixels"
        say(f"{SPOKEN[name]}: {right:.1%} of {count} prompts right, {settings}")
        if name == "unet" and size == world.SIZE:
            save_sheet(pictures[:SHOWN])
    files = {path.name: path.stat().st_size for path in sorted(weights.FOLDER.glob("*.safetensors"))}
    say(", ".join(f"{file}: {size / 2**20:.2f} MiB" for file, size in files.items()))


def save_sheet(pictures: Tensor) -> None:
    """The picture of docs/benchmarks.md: some pictures, (SHOWN, 3, height, width), in rows."""
    rows = [torch.cat(list(row), 2) for row in torch.split(pictures, IN_A_ROW)]
    values = (torch.cat(rows, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(values).save(SHEET, optimize=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
