"""Short calls of the host's own sampling and conditioning nodes, with defaults that tests share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy_extras.nodes_custom_sampler as custom_sampler
import tiny
import torch

import nodes as host_nodes

Conditioning = list[list[Any]]
Latent = dict[str, Any]


def latent(samples: torch.Tensor | None = None) -> Latent:
    """A LATENT; empty, (1, 4, 8, 8), when nothing is given."""
    return {"samples": torch.zeros(1, 4, 8, 8) if samples is None else samples}


def ksampler_advanced(model: Any, start: Latent | None = None, **inputs: Any) -> torch.Tensor:
    """KSamplerAdvanced; every input can be given by its name. Returns the latent."""
    chosen: dict[str, Any] = {
        "add_noise": "enable",
        "noise_seed": 0,
        "steps": 8,
        "cfg": 5.0,
        "sampler_name": "euler",
        "scheduler": "normal",
        "positive": tiny.text(1),
        "negative": tiny.text(2),
        "start_at_step": 0,
        "end_at_step": 10000,
        "return_with_leftover_noise": "disable",
        **inputs,
    }
    return host_nodes.KSamplerAdvanced().sample(model=model, latent_image=start or latent(), **chosen)[0]["samples"]


def manual_sigmas(*sigmas: float) -> torch.Tensor:
    """ManualSigmas: the schedule as typed in by a user."""
    return custom_sampler.ManualSigmas.execute(", ".join(str(sigma) for sigma in sigmas)).args[0]


def basic_scheduler(model: Any, scheduler: str = "normal", steps: int = 8, denoise: float = 1.0) -> torch.Tensor:
    """BasicScheduler."""
    return custom_sampler.BasicScheduler.execute(model, scheduler, steps, denoise).args[0]


def sampler_custom(
    model: Any, sigmas: torch.Tensor, sampler: str = "euler", start: Latent | None = None, **inputs: Any
) -> torch.Tensor:
    """SamplerCustom; returns the latent."""
    chosen = {"add_noise": True, "noise_seed": 0, "cfg": 5.0, **inputs}
    chosen.setdefault("positive", tiny.text(1))
    chosen.setdefault("negative", tiny.text(2))
    picked = custom_sampler.KSamplerSelect.execute(sampler).args[0]
    output = custom_sampler.SamplerCustom.execute(
        model=model, sampler=picked, sigmas=sigmas, latent_image=start or latent(), **chosen
    )
    return output.args[0]["samples"]


def sampler_custom_advanced(
    guider: Any, sigmas: torch.Tensor, sampler: str = "euler", start: Latent | None = None
) -> torch.Tensor:
    """RandomNoise, KSamplerSelect and SamplerCustomAdvanced; returns the latent."""
    noise = custom_sampler.RandomNoise.execute(0).args[0]
    picked = custom_sampler.KSamplerSelect.execute(sampler).args[0]
    return custom_sampler.SamplerCustomAdvanced.execute(noise, guider, picked, sigmas, start or latent()).args[0][
        "samples"
    ]


def combine(*conds: Conditioning) -> Conditioning:
    """ConditioningCombine, one after the other."""
    combined = conds[0]
    for cond in conds[1:]:
        (combined,) = host_nodes.ConditioningCombine().combine(combined, cond)
    return combined


def area(cond: Conditioning, height: int, width: int, y: int, x: int, strength: float = 1.0) -> Conditioning:
    """ConditioningSetArea, in latent units."""
    return host_nodes.ConditioningSetArea().append(cond, width * 8, height * 8, x * 8, y * 8, strength)[0]


def area_percentage(cond: Conditioning, box: Sequence[float], strength: float = 1.0) -> Conditioning:
    """ConditioningSetAreaPercentage; `box` is (width, height, x, y)."""
    return host_nodes.ConditioningSetAreaPercentage().append(cond, *box, strength)[0]


def left_mask(height: int = 8, width: int = 8) -> torch.Tensor:
    """A MASK, (1, H, W), of the left half."""
    mask = torch.zeros(1, height, width)
    mask[:, :, : width // 2] = 1.0
    return mask


def masked(cond: Conditioning, mask: torch.Tensor, strength: float = 1.0, area: str = "default") -> Conditioning:
    """ConditioningSetMask; `area` is "default" or "mask bounds"."""
    return host_nodes.ConditioningSetMask().append(cond, mask, area, strength)[0]


def ranged(cond: Conditioning, start: float, end: float) -> Conditioning:
    """ConditioningSetTimestepRange."""
    return host_nodes.ConditioningSetTimestepRange().set_range(cond, start, end)[0]
