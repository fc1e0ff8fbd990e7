"""Multiply-accumulate operations of a whole sampling run, by kind of operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.sample
import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from torch.utils.flop_counter import FlopCounterMode

from .models import FullSizeModel, blank_conditioning

FLOPS_PER_MAC = 2
_LINEAR = (torch.ops.aten.mm, torch.ops.aten.addmm)
_CONVOLUTION = (torch.ops.aten.convolution, torch.ops.aten._convolution)


@dataclass(frozen=True)
class Macs:
    """MACs of a run: linear layers, convolutions, and the two matrix products inside attention kernels."""

    linear: int
    convolution: int
    attention: int

    @property
    def published(self) -> int:
        """What the published tables count: their counter did not see inside attention kernels."""
        return self.linear + self.convolution


def count_macs(
    patcher: ModelPatcher,
    model: FullSizeModel,
    *,
    steps: int,
    cfg: float,
    sampler: str = "euler",
    scheduler: str = "normal",
) -> Macs:
    """Sample one picture through the host's sampler and count what the network does.

    Args:
        patcher: from `build_on_meta`, possibly patched by nodes.
        model: the architecture it was built from.
        steps: sampling steps.
        cfg: guidance scale; 1 leaves the second branch out.
        sampler: the host's name of a sampler.
        scheduler: the host's name of a scheduler.
    """
    sigmas = comfy.samplers.calculate_sigmas(patcher.get_model_object("model_sampling"), scheduler, steps)
    with FlopCounterMode(display=False) as counter:
        comfy.sample.sample_custom(
            patcher,
            torch.ones(model.latent_shape),
            cfg,
            comfy.samplers.sampler_object(sampler),
            sigmas,
            blank_conditioning(model),
            blank_conditioning(model),
            torch.zeros(model.latent_shape),
            disable_pbar=True,
            seed=0,
        )
    return _by_kind(counter.get_flop_counts()["Global"])


def _by_kind(flops: dict[Any, int]) -> Macs:
    """Linear layers are products with one matrix, attention's products come in batches."""
    macs = {operator: count // FLOPS_PER_MAC for operator, count in flops.items()}
    linear = sum(macs.pop(operator, 0) for operator in _LINEAR)
    convolution = sum(macs.pop(operator, 0) for operator in _CONVOLUTION)
    return Macs(linear, convolution, attention=sum(macs.values()))
