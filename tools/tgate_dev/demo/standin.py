"""A stand-in for an SD 1.5 checkpoint: the host's own classes, a narrower UNet, random weights from a fixed seed.

The UNet has three of SD 1.5's four levels, 7 pairs of attentions in place of 16, and 320 channels throughout; text
encoder and VAE are full size. Nothing is trained: what comes of it is texture.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cache import cache_root, content_key, made
from ..environment import Environment
from ..errors import UserError
from ..progress import Stage

if TYPE_CHECKING:
    from torch import Tensor

FILE = "tgate-standin-sd15.safetensors"
UNET, VAE, TEXT_ENCODER = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model."
FIRST_LAYER, LAST_LAYER = f"{UNET}input_blocks.0.0.weight", f"{UNET}out.2.weight"
UNET_CONFIG: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [1, 1, 1],
    "channel_mult": [1, 1, 1],
    "transformer_depth": [1, 1, 0],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 0, 0],
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
# Queries and keys of unit size attend almost evenly. Sharper scores look at few places, as those of a trained model do,
# so that what attention does shows in the texture.
ATTENTION_SHARPNESS = 3.0
# Texture is easier to compare where it is not cut off at black and white.
PICTURE_CONTRAST = 0.5
# The prediction is mostly the noise that the UNet is given: a picture of the rest alone would be that noise.
NOISE_SHARE = 0.8


def ready_standin(environment: Environment) -> Path:
    """The stand-in checkpoint, from the cache; made first where it is missing. Runs in the environment's python.

    Raises:
        UserError: it cannot be made.
    """
    entry = cache_root() / "standin" / content_key([Path(__file__).read_text(encoding="utf-8")])

    def build(folder: Path) -> Path:
        new = folder / "standin"
        new.mkdir()
        with Stage("Making a stand-in checkpoint with random weights (0.6 GB, once)"):
            _make(new / FILE, environment)
        return new

    return made(entry, "the stand-in checkpoint", build, lambda place: (place / FILE).is_file()) / FILE


def _make(path: Path, environment: Environment) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    sys.path.insert(0, str(environment.comfyui))
    host_arguments = importlib.import_module("comfy.cli_args").args
    host_arguments.cpu = True
    try:
        save_file(weights(), path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"The stand-in checkpoint {path} cannot be written ({error}): make room there.") from error


def weights() -> dict[str, Tensor]:
    """All weights in half precision, named as in an SD 1.5 checkpoint."""
    shapes = {
        prefix + name: tuple(parameter.shape)
        for prefix, module in architecture().items()
        for name, parameter in module.named_parameters()
    }
    tied = {name: initial(name, shapes[name]) for name in (FIRST_LAYER, LAST_LAYER)}
    tie_output_to_input(tied)
    return {name: (tied[name] if name in tied else initial(name, shape)).half() for name, shape in shapes.items()}


def architecture() -> dict[str, Any]:
    """The three networks on torch's `meta` device, by their prefix in a checkpoint."""
    import comfy.ops
    import comfy.sd1_clip
    import torch
    from comfy.clip_model import CLIPTextModel_
    from comfy.ldm.models.autoencoder import AutoencoderKL
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    operations = comfy.ops.disable_weight_init
    clip_file = Path(comfy.sd1_clip.__file__).with_name("sd1_clip_config.json")
    clip_config = json.loads(clip_file.read_text(encoding="utf-8"))
    with torch.device("meta"):
        return {
            UNET: UNetModel(**UNET_CONFIG, device="meta", operations=operations),
            VAE: AutoencoderKL(ddconfig=VAE_CONFIG, embed_dim=4),
            TEXT_ENCODER: CLIPTextModel_(clip_config, torch.float32, "meta", operations),
        }


def initial(name: str, shape: tuple[int, ...]) -> Tensor:
    """Random values of one parameter, which depend on its name and shape alone."""
    import torch

    if len(shape) == 1:
        return torch.zeros(shape) if name.endswith("bias") else torch.ones(shape)
    values = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    if "_embedding." in name:
        return values
    if name.endswith(("to_q.weight", "to_k.weight")):
        values *= ATTENTION_SHARPNESS**0.5
    if name.endswith("decoder.conv_out.weight"):
        values *= PICTURE_CONTRAST
    return values.mul_(math.prod(shape[1:]) ** -0.5)


def tie_output_to_input(weights: dict[str, Tensor]) -> None:
    """Let the UNet's last layer read what its first one wrote, so that the prediction resembles the noise."""
    first, last = weights[FIRST_LAYER], weights[LAST_LAYER]
    center = first[:, :, 1, 1].clone()
    center = center / center.norm(dim=0)
    first.mul_(0.1)[:, :, 1, 1] = center
    last.mul_(1.0 - NOISE_SHARE)[:, :, 1, 1] += NOISE_SHARE * center.T
