"""Make a stand-in for an SD 1.5 checkpoint: the real classes, narrower, with random weights from a fixed seed.

Runs in the environment's python, with ComfyUI's own model classes. The UNet has three of SD 1.5's four
levels, half the blocks (7 pairs of attentions instead of 16), and 320 channels throughout; the text encoder (CLIP-L)
and the VAE are full size. Nothing is trained: what such a checkpoint gives is texture, not pictures.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

LEVELS = 3
UNET_CONFIG: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [1] * LEVELS,
    "channel_mult": [1] * LEVELS,
    "transformer_depth": [1, 1, 0],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1] * 4 + [0] * 2,
    "context_dim": 768,
    "num_heads": 8,
    "num_head_channels": -1,
    "use_spatial_transformer": True,
    "legacy": False,
}
VAE_CONFIG: dict[str, Any] = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}
# Random queries and keys of unit size attend almost evenly: sharper scores let a place look at few others, as in a
# trained model, so that the attentions (and what is skipped of them) show in the texture.
ATTENTION_SHARPNESS = 3.0
# Pictures of medium contrast: texture is easier to compare where it is not cut off at black and white.
PICTURE_CONTRAST = 0.5
# The prediction is mostly the noise the UNet is given (see `tie_output_to_input`), plus what its blocks make of it.
NOISE_SHARE = 0.8


def make(path: Path) -> None:
    """Write the stand-in checkpoint to `path`, all at once: an interrupted run leaves no half-written checkpoint.

    ComfyUI has to be importable. Weights are float16 and named as in the original SD 1.5 checkpoints.
    """
    from safetensors.torch import save_file

    weights = dict(_weights())
    tie_output_to_input(weights)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    try:
        save_file({name: weight.half().contiguous() for name, weight in weights.items()}, partial)
        Path(partial).replace(path)
    finally:
        Path(partial).unlink(missing_ok=True)


def _weights() -> Iterator[tuple[str, Tensor]]:
    for prefix, module in architecture().items():
        for name, parameter in module.named_parameters():
            full_name = prefix + name
            yield full_name, initial(full_name, tuple(parameter.shape))


def architecture() -> dict[str, Any]:
    """The three networks without memory for weights (device `meta`), by their prefix in a checkpoint."""
    import comfy.ops
    import torch
    from comfy.clip_model import CLIPTextModel_
    from comfy.ldm.models.autoencoder import AutoencoderKL
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    operations = comfy.ops.disable_weight_init
    clip_file = Path(importlib.import_module("comfy.sd1_clip").__file__ or "").with_name("sd1_clip_config.json")
    clip_config = json.loads(clip_file.read_text(encoding="utf-8"))
    with torch.device("meta"):
        return {
            "model.diffusion_model.": UNetModel(**UNET_CONFIG, device="meta", operations=operations),
            "first_stage_model.": AutoencoderKL(ddconfig=VAE_CONFIG, embed_dim=4),
            "cond_stage_model.transformer.text_model.": CLIPTextModel_(clip_config, torch.float32, "meta", operations),
        }


def initial(name: str, shape: tuple[int, ...]) -> Tensor:
    """Random values of one parameter: the same for the same name and shape, whatever else there is."""
    import torch

    if name.endswith("bias"):
        return torch.zeros(shape)
    if len(shape) == 1:
        return torch.ones(shape)
    seed = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    values = torch.randn(shape, generator=seed)
    if "_embedding." in name:
        return values
    if name.endswith(("to_q.weight", "to_k.weight")):
        values *= ATTENTION_SHARPNESS**0.5
    if name.endswith("decoder.conv_out.weight"):
        values *= PICTURE_CONTRAST
    fan_in = math.prod(shape[1:])
    return values.mul_(fan_in**-0.5)


def tie_output_to_input(weights: dict[str, Tensor]) -> None:
    """Let the UNet's last layer read out what its first one wrote: the prediction then resembles the noise.

    Without it the prediction has nothing to do with the noise in the latent, and the picture would be that noise alone.
    """
    first = weights["model.diffusion_model.input_blocks.0.0.weight"]
    last = weights["model.diffusion_model.out.2.weight"]
    center = first[:, :, 1, 1].clone()
    center = center / center.norm(dim=0)
    first.mul_(0.1)[:, :, 1, 1] = center
    last.mul_(1.0 - NOISE_SHARE)[:, :, 1, 1] += NOISE_SHARE * center.T


def main() -> int:
    """Command line: `--comfyui TREE FILE`."""
    parser = argparse.ArgumentParser(description="Make the stand-in checkpoint of the demo.")
    parser.add_argument("--comfyui", type=Path, required=True)
    parser.add_argument("file", type=Path)
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.comfyui))
    from comfy.cli_args import args as host_arguments

    host_arguments.cpu = True
    make(arguments.file)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
