"""A checkpoint of SD 1.5's size and class that paints scenes, built from the weights in the repository."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..cache import cache_root, content_key, made
from ..environment import Environment
from ..errors import UserError
from ..progress import Stage
from . import text, unet, vae, weights

FILE = "tgate-scenes-sd15.safetensors"
UNET, VAE, TEXT_ENCODER = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model."
SOURCES = [*Path(__file__).parent.glob("*.py"), *weights.FOLDER.glob("*.safetensors")]


def ready_checkpoint(environment: Environment) -> Path:
    """The checkpoint, from the cache; made first where it is missing. Runs in the environment's python.

    Raises:
        UserError: it cannot be made.
    """
    key = content_key(path.read_bytes().hex() for path in sorted(SOURCES))

    def build(folder: Path) -> Path:
        sys.path.insert(0, str(environment.comfyui))
        host_arguments = importlib.import_module("comfy.cli_args").args
        host_arguments.cpu = True
        new = folder / "checkpoint"
        new.mkdir()
        try:
            with Stage("Making a checkpoint of SD 1.5's size from the trained weights (0.5 GB, once)"):
                save_file(state(), new / FILE)
        except (SafetensorError, OSError) as error:
            raise UserError(f"The checkpoint {new} cannot be written ({error}): make room there.") from error
        return new

    entry = cache_root() / "scenes" / key
    return made(entry, "the checkpoint", build, lambda place: (place / FILE).is_file()) / FILE


def state() -> dict[str, Tensor]:
    """All weights in half precision, named as in an SD 1.5 checkpoint."""
    parts = {UNET: wide_unet(), VAE: tiny_vae(), TEXT_ENCODER: text_encoder()}
    return {prefix + name: value.half().contiguous() for prefix, part in parts.items() for name, value in part.items()}


def wide_unet() -> dict[str, Tensor]:
    """The trained UNet at SD 1.5's width."""
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    return unet.widened(weights.load("unet"), shapes(UNetModel, **unet.WIDE_CONFIG))


def wide_macs(counts: Mapping[str, int]) -> int:
    """What the UNet at SD 1.5's width costs where the small one does this.

    In the small one the text, which is as wide as in SD 1.5, weighs five times too much.

    Args:
        counts: MACs of the small UNet by module; "" is all.
    """
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    wide, small = shapes(UNetModel, **unet.WIDE_CONFIG), weights.load("unet")
    layers = [name for name in counts if f"{name}.weight" in wide]
    grown = sum(counts[name] * wide[f"{name}.weight"].numel() // small[f"{name}.weight"].numel() for name in layers)
    # All else is the products of attention.
    return grown + (counts[""] - sum(counts[name] for name in layers)) * unet.COPIES


def tiny_vae() -> dict[str, Tensor]:
    """A VAE of the host's TAESD class, whose latents are those of SD 1.5 in scale."""
    from comfy.latent_formats import SD15

    networks = {"encoder": vae.encoder().state_dict(), "decoder": vae.filled_up(weights.load("decoder"))}
    named = {f"taesd_{part}.{name}": value for part, network in networks.items() for name, value in network.items()}
    return {**named, "vae_scale": torch.tensor(SD15().scale_factor), "vae_shift": torch.tensor(0.0)}


def text_encoder() -> dict[str, Tensor]:
    """A CLIP-L whose blocks add nothing to its embeddings."""
    import comfy.sd1_clip
    from comfy.clip_model import CLIPTextModel_

    file = Path(comfy.sd1_clip.__file__).with_name("sd1_clip_config.json")
    config = json.loads(file.read_text(encoding="utf-8"))
    kept = {name: torch.zeros(shape) for name, shape in shapes(CLIPTextModel_, config, torch.float32).items()}
    tokens, places = text.embeddings()
    kept["embeddings.token_embedding.weight"], kept["embeddings.position_embedding.weight"] = tokens, places
    kept["final_layer_norm.weight"].fill_(1.0)
    return kept


def shapes(network: Any, *args: Any, **kwargs: Any) -> dict[str, torch.Size]:
    """The shapes of the parameters of one of the host's networks."""
    import comfy.ops

    built = network(*args, **kwargs, device="meta", operations=comfy.ops.disable_weight_init)
    return {name: value.shape for name, value in built.named_parameters()}
