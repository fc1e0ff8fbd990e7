"""Pictures of the help pages: planned schedules, and what the nodes show of one run of the small trained UNet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import comfy.samplers
import torch
from PIL import Image

from .bench.pack import pack_core
from .scenes import painting, text, world

STEPS, CFG, SAMPLER, SCHEDULER = 25, 7.0, "dpmpp_2m", "karras"
CPU = torch.device("cpu")
# Enough for flat areas and smooth edges, and small files.
COLORS = 64
# Refreshed from an early gate on, the last steps in full: what Advanced can do.
ADVANCED_GATE, PROTECTED = 7, 2
# As in the paper's table of DeepCache with T-GATE.
DEEP_CACHE_INTERVAL, DEEP_CACHE_GATE = 3, 13
FORECAST_STRENGTH, FORECAST_GATE = 3, 3


def draw_all(nodes: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw the pictures of the help pages into a folder, by the pack's node classes; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {folder / f"{picture_of.__name__[1:]}.png": picture_of for picture_of in PICTURES}
    for file, picture_of in files.items():
        picture_of(nodes).quantize(COLORS).save(file, optimize=True)
    return list(files)


def _schedule(nodes: Mapping[str, Any]) -> Image.Image:
    """The balanced preset on SDXL, as planned."""
    core, sigmas = pack_core(nodes), _usual_sigmas()
    forecast = core("presets").PresetConfig("sdxl", "balanced").resolve(sigmas, has_guidance=True).forecast
    predicted = core("forecast.schedule").forecast_steps(forecast, sigmas)
    nothing = core("report.preview").NOTHING
    schedule = core("gate.schedule").build_schedule(nothing, STEPS, STEPS)
    return _timeline(core, "SDXL, 25 steps, preset balanced", nothing, schedule, predicted=predicted)


def _advanced(nodes: Mapping[str, Any]) -> Image.Image:
    """A gate, refreshed steps and protected ones, as planned."""
    core = pack_core(nodes)
    settings = {"guidance": "cached_delta", "refresh": "growing gaps", "protect_last": PROTECTED}
    config = core("gate.config").GateConfig(gate=ADVANCED_GATE, sp_interval=5, warm_up=2, **settings)
    refreshed = core("gate.schedule").refreshed_steps(config, _usual_sigmas(), ADVANCED_GATE, True)
    schedule = core("gate.schedule").build_schedule(config, STEPS, ADVANCED_GATE, refreshed=refreshed)
    return _timeline(core, f"25 steps, gate {ADVANCED_GATE}, growing gaps, last {PROTECTED} in full", config, schedule)


def _usual_sigmas() -> list[float]:
    """Noise levels of the scheduler 'normal'."""
    sampling = painting.load_model().get_model_object("model_sampling")
    sigmas: list[float] = comfy.samplers.calculate_sigmas(sampling, "normal", STEPS).tolist()
    return sigmas


def _deep_cache(nodes: Mapping[str, Any]) -> Image.Image:
    """DeepCache and T-GATE, as planned."""
    core = pack_core(nodes)
    config = core("gate.config").GateConfig(gate=DEEP_CACHE_GATE, sp_interval=1, warm_up=0, self_attention=False)
    falling = range(STEPS, -1, -1)  # noise levels; all that counts here is that they fall
    deep_config = core("deepcache.schedule").DeepCacheConfig(DEEP_CACHE_INTERVAL)
    deep = core("deepcache.schedule").build_deep_schedule(deep_config, falling, {DEEP_CACHE_GATE - 1})
    schedule = core("gate.schedule").build_schedule(config, STEPS, DEEP_CACHE_GATE, deep.shallow)
    title = "SDXL, 25 steps, DeepCache with interval 3 and T-GATE at gate 13"
    return _timeline(core, title, config, schedule, deep.shallow)


def _forecast(nodes: Mapping[str, Any]) -> Image.Image:
    """Forecast and refreshed guidance, as planned."""
    core = pack_core(nodes)
    settings = {"guidance": "cached_delta", "refresh": "growing gaps", "self_attention": False}
    config = core("gate.config").GateConfig(gate=FORECAST_GATE, sp_interval=1, warm_up=0, **settings)
    refreshed = core("gate.schedule").refreshed_steps(config, _usual_sigmas(), FORECAST_GATE, True)
    schedule = core("gate.schedule").build_schedule(config, STEPS, FORECAST_GATE, refreshed=refreshed)
    forecast = core("forecast.schedule")
    needed = {FORECAST_GATE - 1, *refreshed}
    predicted = forecast.forecast_steps(forecast.ForecastConfig(FORECAST_STRENGTH), _usual_sigmas(), needed)
    title = f"25 steps, Forecast at strength {FORECAST_STRENGTH}, T-GATE at gate {FORECAST_GATE}"
    return _timeline(core, title, config, schedule, predicted=predicted)


def _timeline(core: Any, title: str, config: Any, schedule: Any, *shallow: Any, **predicted: Any) -> Image.Image:
    cells = core("report.timeline").planned_cells(config, schedule, True, *shallow, **predicted)
    picture: Image.Image = core("report.pictures.timeline_picture").draw_timeline(cells, title, ())
    return picture


def _report(nodes: Mapping[str, Any]) -> Image.Image:
    """What TGATE Report shows of a run."""
    model = nodes["TGATEApply"].execute(model=painting.load_model(), preset="balanced").args[0]
    return _as_picture(nodes["TGATEReport"].execute(model=model, latent=_sampled(model)).args[2])


def _convergence(nodes: Mapping[str, Any]) -> Image.Image:
    """What TGATE Convergence Plot shows of a run."""
    model, probe = nodes["TGATEProbe"].execute(model=painting.load_model()).args
    return _as_picture(nodes["TGATEConvergencePlot"].execute(probe=probe, latent=_sampled(model)).args[0])


def _sampled(model: Any) -> dict[str, torch.Tensor]:
    """The host's LATENT of one KSampler run on a prompt of the small world."""
    sampler = comfy.samplers.KSampler(model, STEPS, CPU, SAMPLER, SCHEDULER, 1.0)
    (scene,), noise = world.measuring_set(1)
    prompts = [[[text.padded(text.conditioning([prompt])), {}]] for prompt in (world.prompt(scene), "")]
    with torch.inference_mode():
        empty = torch.zeros_like(noise)
        return {"samples": sampler.sample(noise, *prompts, CFG, latent_image=empty, disable_pbar=True, seed=0)}


def _as_picture(image: torch.Tensor) -> Image.Image:
    """A picture from the host's IMAGE (1, H, W, 3)."""
    return Image.fromarray((image[0] * 255.0).round().to(torch.uint8).numpy())


PICTURES = (_schedule, _advanced, _deep_cache, _forecast, _report, _convergence)
