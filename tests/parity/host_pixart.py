"""The PixArt models as ComfyUI's own classes."""

from __future__ import annotations

from typing import Any

import comfy.model_patcher
import comfy.supported_models
import comfy.utils
import torch
from host_models import SamplingJob, make_patcher
from parity_cases import CONTEXT_DIM, LATENT_CHANNELS, PIXELS_PER_LATENT, TEXT_TOKENS, Case, make_inputs
from parity_pixart import PIXARTS, PixArtShape

CLASSES = {"pixart_alpha": comfy.supported_models.PixArtAlpha, "pixart_sigma": comfy.supported_models.PixArtSigma}


def pixart_config(model: str, shape: PixArtShape) -> dict[str, Any]:
    """A transformer of this shape in the host's terms."""
    return {
        "image_model": model,
        "patch_size": 2,
        "in_channels": LATENT_CHANNELS,
        "hidden_size": shape.channels,
        "num_heads": shape.heads,
        "depth": shape.depth,
        "caption_channels": CONTEXT_DIM,
        "model_max_length": TEXT_TOKENS,
        "micro_condition": shape.sizes,
    }


def build_model(model: str) -> comfy.model_patcher.ModelPatcher:
    config = pixart_config(model, PIXARTS[model])
    named = comfy.utils.pixart_to_diffusers(config)
    # The host fuses some projections: their place is then a name with a part.
    places = {diffusers: (place, None) if isinstance(place, str) else place for diffusers, place in named.items()}
    return make_patcher(model, CLASSES[model](config), places)


def sampling_job(patcher: comfy.model_patcher.ModelPatcher, model: str, case: Case) -> SamplingJob:
    """A case with its conditioning as PixArt Alpha's text encoder node hands it on; Sigma leaves the size unread."""
    inputs = make_inputs(model, case)
    size = {"height": case.height * PIXELS_PER_LATENT, "width": case.width * PIXELS_PER_LATENT}
    return SamplingJob(
        patcher,
        torch.from_numpy(inputs.noise),
        case.cfg,
        positive=[[torch.from_numpy(inputs.positive), size]],
        negative=[[torch.from_numpy(inputs.negative), size]],
    )
