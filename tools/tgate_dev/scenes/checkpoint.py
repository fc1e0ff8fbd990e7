"""A checkpoint of SD 1.5's size and class that paints scenes, built from the weights in the repository."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cache import cache_root, content_key, made
from ..environment import Environment
from ..errors import UserError
from ..progress import Stage

if TYPE_CHECKING:
    from torch import Tensor

FILE = "tgate-scenes-sd15.safetensors"
UNET, VAE, TEXT_ENCODER = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model."
HERE = Path(__file__).parent


def ready_checkpoint(environment: Environment) -> Path:
    """The checkpoint, from the cache; made first where it is missing. Runs in the environment's python.

    Raises:
        UserError: it cannot be made.
    """
    sources = [path.read_bytes().hex() for path in (*sorted(HERE.glob("*.py")), *sorted(HERE.glob("weights/*.safe*")))]
    entry = cache_root() / "scenes" / content_key(sources)

    def build(folder: Path) -> Path:
        new = folder / "checkpoint"
        new.mkdir()
        with Stage("Making a checkpoint of SD 1.5's size from the trained weights (0.5 GB, once)"):
            _make(new / FILE, environment)
        return new

    return made(entry, "the checkpoint", build, lambda place: (place / FILE).is_file()) / FILE


def _make(path: Path, environment: Environment) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    sys.path.insert(0, str(environment.comfyui))
    host_arguments = importlib.import_module("comfy.cli_args").args
    host_arguments.cpu = True
    try:
        save_file(state(), path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"The checkpoint {path} cannot be written ({error}): make room there.") from error


def state() -> dict[str, Tensor]:
    """All weights in half precision, named as in an SD 1.5 checkpoint."""
    parts = {UNET: wide_unet(), VAE: tiny_vae(), TEXT_ENCODER: text_encoder()}
    return {prefix + name: value.half().contiguous() for prefix, part in parts.items() for name, value in part.items()}


def wide_unet() -> dict[str, Tensor]:
    """The trained UNet at SD 1.5's width."""
    from . import unet, weights

    return unet.widened(weights.load("unet"), {name: value.shape for name, value in on_meta()[UNET].items()})


def tiny_vae() -> dict[str, Tensor]:
    """A VAE of the host's TAESD class, whose latents are those of SD 1.5 in scale."""
    import torch
    from comfy.latent_formats import SD15

    from . import vae, weights

    networks = {"encoder": vae.encoder().state_dict(), "decoder": vae.filled_up(weights.load("decoder"))}
    named = {f"taesd_{part}.{name}": value for part, network in networks.items() for name, value in network.items()}
    scale, shift = torch.tensor(SD15().scale_factor), torch.tensor(0.0)
    return {**named, "vae_scale": scale, "vae_shift": shift}


def text_encoder() -> dict[str, Tensor]:
    """A CLIP-L whose blocks add nothing to its embeddings."""
    import torch

    from . import text

    kept = {name: torch.zeros(value.shape) for name, value in on_meta()[TEXT_ENCODER].items()}
    tokens, places = text.embeddings()
    kept["embeddings.token_embedding.weight"], kept["embeddings.position_embedding.weight"] = tokens, places
    kept["final_layer_norm.weight"].fill_(1.0)
    return kept


def on_meta() -> dict[str, dict[str, Any]]:
    """The parameters of UNet and text encoder at full size, on torch's `meta` device."""
    import comfy.ops
    import comfy.sd1_clip
    import torch
    from comfy.clip_model import CLIPTextModel_
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    from . import unet

    operations = comfy.ops.disable_weight_init
    clip_file = Path(comfy.sd1_clip.__file__).with_name("sd1_clip_config.json")
    clip_config = json.loads(clip_file.read_text(encoding="utf-8"))
    with torch.device("meta"):
        networks = {
            UNET: UNetModel(**unet.WIDE_CONFIG, device="meta", operations=operations),
            TEXT_ENCODER: CLIPTextModel_(clip_config, torch.float32, "meta", operations),
        }
    return {prefix: dict(network.named_parameters()) for prefix, network in networks.items()}
