"""What the ComfyUI side's models of all kinds share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.model_patcher
import torch
from parity_cases import weight
from torch import Tensor

# Part of one of the host's parameters: dimension, start and length. None: all of it.
Part = tuple[int, int, int] | None


@dataclass(frozen=True)
class SamplingJob:
    """What a run needs besides the sigmas. The noise is (batch or frames, 4, height, width)."""

    patcher: comfy.model_patcher.ModelPatcher
    noise: Tensor
    cfg: float
    positive: list[Any]
    negative: list[Any]


def make_patcher(name: str, config: Any, places: Mapping[str, tuple[str, Part]]) -> comfy.model_patcher.ModelPatcher:
    """A model of the host with drawn weights.

    Args:
        name: of the parity check's model.
        config: the host's configuration of it.
        places: by diffusers name of a parameter, the host's name and which part of it this is. What the model does
            not have is passed over.
    """
    device = comfy.model_management.get_torch_device()
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, device=device)
    # Whatever no place is named for stays NaN, and so would every latent.
    state = {key: torch.full_like(value, torch.nan) for key, value in model.diffusion_model.state_dict().items()}
    for diffusers_name, (key, part) in places.items():
        if key in state:
            target = state[key] if part is None else state[key].narrow(*part)
            target.copy_(torch.from_numpy(weight(name, diffusers_name, tuple(target.shape))))
    model.diffusion_model.load_state_dict(state)
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=torch.device("cpu"))
