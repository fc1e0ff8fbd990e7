"""Tiny random-weight models of the host's real classes, and one call that samples them through the real host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.model_base
import comfy.model_patcher
import comfy.sample
import comfy.samplers
import comfy.supported_models
import torch
from comfy.ldm.modules.attention import BasicTransformerBlock

CONTEXT = 32
SCALES = ("weight", "gamma")  # what the host's classes call the factors of a normalisation
SD15_UNET: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 2],
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "context_dim": CONTEXT,
    "use_spatial_transformer": True,
    "legacy": False,
    "num_heads": 4,
    "num_head_channels": -1,
    "use_linear_in_transformer": False,
    "adm_in_channels": None,
    "use_temporal_attention": False,
    "dtype": torch.float32,
}


def sd15(seed: int = 0, **changes: Any) -> comfy.model_patcher.ModelPatcher:
    """An SD 1.5-shaped model: two levels, middle block, 7 transformer blocks, context of width 32."""
    config = comfy.supported_models.SD15({**SD15_UNET, **changes})
    torch.manual_seed(seed)
    base = comfy.model_base.BaseModel(config)
    randomise(base.diffusion_model, seed)
    return comfy.model_patcher.ModelPatcher(base, torch.device("cpu"), torch.device("cpu"))


def randomise(module: torch.nn.Module, seed: int) -> None:
    """Weights that let the text matter: the host's own initialisation leaves many at zero."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if "norm" in name or parameter.ndim == 1:
            parameter.data = torch.ones_like(parameter) if name.endswith(SCALES) else torch.zeros_like(parameter)
            continue
        fan_in = parameter[0].numel()
        parameter.data = torch.randn(parameter.shape, generator=generator) / fan_in**0.5


def text(seed: int, tokens: int = 8, width: int = CONTEXT, **options: Any) -> list[list[Any]]:
    """A conditioning of one random text embedding."""
    generator = torch.Generator().manual_seed(1000 + seed)
    return [[torch.randn(1, tokens, width, generator=generator) * 2, dict(options)]]


def noise(seed: int, batch: int = 1, height: int = 8, width: int = 8, channels: int = 4) -> torch.Tensor:
    """Seeded noise, latent shape (B, C, H, W)."""
    return noise_of(seed, (batch, channels, height, width))


def noise_of(seed: int, shape: Sequence[int]) -> torch.Tensor:
    """Seeded noise of any shape."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(2000 + seed))


def sample(
    model: comfy.model_patcher.ModelPatcher,
    *,
    steps: int = 8,
    cfg: float = 5.0,
    sampler: Any = "euler",
    scheduler: str = "normal",
    positive: list[Any] | None = None,
    negative: list[Any] | None = None,
    latent: torch.Tensor | None = None,
    seed: int = 0,
    drawn: torch.Tensor | None = None,
    **options: Any,
) -> torch.Tensor:
    """One run of the host's KSampler from `latent` and seeded noise, or `drawn`; returns the latent (B, C, …).

    `sampler` is one of the host's by its name, or a SAMPLER of another pack.
    """
    start = torch.zeros_like(noise(seed) if drawn is None else drawn) if latent is None else latent
    name, device = (sampler if isinstance(sampler, str) else "euler"), torch.device("cpu")
    runner = comfy.samplers.KSampler(model, steps, device, name, scheduler, options.pop("denoise", 1.0))
    if not isinstance(sampler, str):
        sigmas = runner.sigmas[: options.pop("last_step", steps) + 1]
        drawn = noise_of(seed, start.shape) if drawn is None else drawn
        cond, uncond = positive or text(1), negative or text(2)
        return comfy.sample.sample_custom(
            model, drawn, cfg, sampler, sigmas, cond, uncond, start, disable_pbar=True, seed=seed, **options
        )
    return runner.sample(
        noise_of(seed, start.shape) if drawn is None else drawn,
        text(1) if positive is None else positive,
        text(2) if negative is None else negative,
        cfg=cfg,
        latent_image=start,
        seed=seed,
        disable_pbar=True,
        **options,
    )


def split_all_conds(model: comfy.model_patcher.ModelPatcher) -> None:
    """Make the host believe that two conds never fit into memory at once."""
    model.model.memory_usage_factor = 1e15


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest difference of two latents, in units of the other's standard deviation; NaN where one is not finite."""
    return float((one - other).abs().max() / other.std())


def blocks(model: comfy.model_patcher.ModelPatcher) -> Sequence[BasicTransformerBlock]:
    """Transformer blocks of a model."""
    return [m for m in model.model.diffusion_model.modules() if isinstance(m, BasicTransformerBlock)]
