"""Pictures of the help pages: laid-out schedules, and what the nodes show of one run on random weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.samplers
import torch
from PIL import Image

from .bench.models import FullSizeModel
from .bench.pack import pack_core
from .bench.timing.models import build_random, random_conditioning, random_noise
from .bench.unets import SDXL, square_latent

STEPS = 25
CFG = 7.0
SAMPLER, SCHEDULER = "dpmpp_2m", "karras"
CPU = torch.device("cpu")
# All blocks of SDXL, a fifth of its width: a run takes seconds. Its weights are random.
WIDTH = 64
TEXT = (77, WIDTH)
NARROW_SDXL: FullSizeModel = replace(
    SDXL,
    latent_shape=square_latent(128),
    text=TEXT,
    network={**SDXL.network, "model_channels": WIDTH, "context_dim": WIDTH, "num_head_channels": 32},
)
# Enough for flat areas and smooth edges, and small files.
COLORS = 64
# What DeepCache and T-GATE do together in the paper's table.
DEEP_CACHE_INTERVAL = 3
DEEP_CACHE_GATE = 13


def draw_all(nodes: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw the pictures of the help pages into a folder; returns the files.

    Args:
        nodes: the pack's node classes by id.
        folder: where they go.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {
        "schedule.png": _schedule(nodes),
        "deep_cache.png": _deep_cache(nodes),
        "report.png": _report(nodes),
        "convergence.png": _convergence(nodes),
    }
    for name, picture in pictures.items():
        picture.quantize(COLORS).save(folder / name, optimize=True)
    return [folder / name for name in pictures]


def _schedule(nodes: Mapping[str, Any]) -> Image.Image:
    """The balanced preset on SDXL, as laid out."""
    core = pack_core(nodes)
    config = core("presets").PresetConfig("sdxl", "balanced").resolve(STEPS, has_guidance=True)
    schedule = core("schedule").build_schedule(config, STEPS, int(config.gate))
    return _timeline(core, core("timeline").planned_cells(config, schedule, True), "SDXL, 25 steps, preset balanced")


def _deep_cache(nodes: Mapping[str, Any]) -> Image.Image:
    """DeepCache and T-GATE as laid out."""
    core = pack_core(nodes)
    config = core("config").GateConfig(gate=DEEP_CACHE_GATE, sp_interval=1, warm_up=0, self_attention=False)
    falling = range(STEPS, -1, -1)  # noise levels; all that counts here is that they fall
    deep_config = core("deep_cache").DeepCacheConfig(DEEP_CACHE_INTERVAL)
    deep = core("deep_cache").build_deep_schedule(deep_config, falling, DEEP_CACHE_GATE, protect_last=0)
    schedule = core("schedule").build_schedule(config, STEPS, DEEP_CACHE_GATE, deep.shallow)
    cells = core("timeline").planned_cells(config, schedule, True, deep.shallow)
    return _timeline(core, cells, "SDXL, 25 steps, DeepCache with interval 3 and T-GATE at gate 13")


def _timeline(core: Any, cells: Any, title: str) -> Image.Image:
    picture: Image.Image = core("pictures.timeline_picture").draw_timeline(cells, title, ())
    return picture


def _report(nodes: Mapping[str, Any]) -> Image.Image:
    """What TGATE Report shows of a run."""
    model = nodes["TGATEApply"].execute(model=build_random(NARROW_SDXL, CPU, torch.float32), preset="balanced").args[0]
    return _as_picture(nodes["TGATEReport"].execute(model=model, latent={"samples": _sample(model)}).args[2])


def _convergence(nodes: Mapping[str, Any]) -> Image.Image:
    """What TGATE Convergence Plot shows of a run."""
    model, probe = nodes["TGATEProbe"].execute(model=build_random(NARROW_SDXL, CPU, torch.float32)).args
    latent = {"samples": _sample(model)}
    return _as_picture(nodes["TGATEConvergencePlot"].execute(probe=probe, latent=latent).args[0])


def _sample(model: Any) -> torch.Tensor:
    """One run of the host's KSampler on random text; a latent (1, 4, H, W)."""
    noise = random_noise(NARROW_SDXL, 1)
    with torch.inference_mode():
        latent: torch.Tensor = comfy.samplers.KSampler(model, STEPS, CPU, SAMPLER, SCHEDULER, 1.0).sample(
            noise,
            random_conditioning(NARROW_SDXL, 1),
            random_conditioning(NARROW_SDXL, 2),
            cfg=CFG,
            latent_image=torch.zeros_like(noise),
            disable_pbar=True,
            seed=0,
        )
    return latent


def _as_picture(image: torch.Tensor) -> Image.Image:
    """A picture from the host's IMAGE (1, H, W, 3)."""
    return Image.fromarray((image[0] * 255.0).round().to(torch.uint8).numpy())
