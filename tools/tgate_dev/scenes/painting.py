"""Painting scenes with the small network, through the host's sampler, and counting those that came out right."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from . import dit, flow, joint, text, unet, vae, weights, world
from .judge import Judge

STEPS, CFG = 25, 4.0
BATCH = 48
# The modules of the networks; each has its weights in the file of its name.
NETWORKS: dict[str, Any] = {"unet": unet, "dit": dit, "joint": joint}


def load_judge() -> Judge:
    """The judge of the repository."""
    judge = Judge()
    judge.load_state_dict(weights.load("judge"))
    return judge.eval()


def load_decoder() -> nn.Module:
    """The VAE's decoder of the repository, at its own width."""
    decoder = vae.decoder()
    decoder.load_state_dict(weights.load("decoder"))
    return decoder.eval()


def load_model(name: str = "unet") -> Any:
    """A small network of the repository, one of `NETWORKS`, as the host's model: a ModelPatcher on the CPU."""
    network = NETWORKS[name].small_network()
    network.load_state_dict(weights.load(name))
    return patcher(network, name)


def patcher(network: nn.Module, name: str = "unet") -> Any:
    """A small network as the host's model, for its samplers."""
    import comfy.model_patcher

    model = NETWORKS[name].host_model()
    model.diffusion_model = network.eval().requires_grad_(False)
    return comfy.model_patcher.ModelPatcher(model, torch.device("cpu"), torch.device("cpu"))


@torch.no_grad()
def paint(
    model: Any, attributes: Tensor, noise: Tensor, steps: int = STEPS, cfg: float = CFG, sampler: str = "euler"
) -> Tensor:
    """The latents of scenes, with a mean of 0 and a deviation of 1.

    Args:
        model: a ModelPatcher of a small network; nodes may have patched it.
        attributes: what to paint, (batch, 5).
        noise: (batch, 4, height / 8, width / 8).
        steps: of sampling.
        cfg: strength of guidance, against the empty prompt.
        sampler: the host's name of it.
    """
    import comfy.sample
    import comfy.samplers

    sampling, form = model.get_model_object("model_sampling"), model.get_model_object("latent_format")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", steps)
    painted = []
    for some, start in zip(torch.split(attributes, BATCH), torch.split(noise, BATCH), strict=True):
        prompts = [[world.prompt(row) for row in some], [""] * len(some)]
        positive, negative = ([[context(model, texts), {}]] for texts in prompts)
        start = flow.framed(start, model.model.diffusion_model)
        solver, empty = comfy.samplers.sampler_object(sampler), torch.zeros_like(start)
        latents = comfy.sample.sample_custom(
            model, start, cfg, solver, sigmas, positive, negative, empty, disable_pbar=True, seed=0
        )
        painted.append(form.process_in(latents).reshape(len(some), *noise.shape[1:]))
    return torch.cat(painted)


def context(model: Any, prompts: list[str]) -> Tensor:
    """The conditioning that a model is given: all places that the host makes for SD 1.5, (prompts, 77, 768), or 8."""
    import comfy.supported_models

    is_sd15 = isinstance(model.model.model_config, comfy.supported_models.SD15)
    return text.padded(text.conditioning(prompts)) if is_sd15 else text.own_places(prompts)


@torch.no_grad()
def pictures(decoder: nn.Module, latents: Tensor) -> Tensor:
    """Latents as pictures (batch, 3, height, width), from 0 to 1."""
    return torch.cat([decoder(some).clamp(0, 1) for some in torch.split(latents, BATCH)])
