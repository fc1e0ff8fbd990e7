"""What the published package's runs of all model kinds share. Runs in the package's environment only."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler
from numpy.typing import NDArray
from parity_cases import PIXELS_PER_LATENT, STEPS, Case, Inputs, weight

Network = TypeVar("Network", bound=torch.nn.Module)


def draw_weights(model: str, network: Network) -> Network:
    """The same network, every weight drawn from its name."""
    for name, value in network.state_dict().items():
        value.copy_(torch.from_numpy(weight(model, name, tuple(value.shape))))
    return network.eval()


def unused_vae() -> AutoencoderKL:
    """Never run: the pipelines read the pixels per latent from its number of levels."""
    return AutoencoderKL(block_out_channels=[8] * 4, norm_num_groups=8, down_block_types=["DownEncoderBlock2D"] * 4)


def euler(**options: Any) -> EulerDiscreteScheduler:
    """A scheduler whose timesteps, if they are discrete, are integers: so both sides embed the same ones."""
    return EulerDiscreteScheduler(timestep_spacing="leading", steps_offset=1, **options)


def starting_latents(noise: NDArray[np.float32], scheduler: EulerDiscreteScheduler) -> torch.Tensor:
    """What a pipeline has to be given, of the noise's shape, to start with this noise at the first sigma.

    The pipeline multiplies by the scheduler's own start, sqrt(sigma^2 + 1); the host starts at sigma.
    """
    return torch.from_numpy(noise) * (float(scheduler.sigmas[0]) / float(scheduler.init_noise_sigma))


def common_arguments(case: Case, inputs: Inputs, scheduler: EulerDiscreteScheduler) -> dict[str, Any]:
    """What every text-to-image pipeline is called with."""
    return {
        "prompt_embeds": torch.from_numpy(inputs.positive),
        "negative_prompt_embeds": torch.from_numpy(inputs.negative) if case.cfg > 1.0 else None,
        "latents": starting_latents(inputs.noise, scheduler),
        "height": case.height * PIXELS_PER_LATENT,
        "width": case.width * PIXELS_PER_LATENT,
        "num_inference_steps": STEPS,
        "guidance_scale": case.cfg,
        "output_type": "latent",
    }
