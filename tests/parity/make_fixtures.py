"""Runs the published packages on small random-weight models and keeps the latents they end with.

These are `tgate==1.0.0`, and `DeepCache==0.1.1` with and without it. They need an environment of their own, apart from
ComfyUI's:

    python3 -m venv /path/to/published
    /path/to/published/bin/pip install -r tests/parity/requirements.txt
    /path/to/published/bin/python tests/parity/make_fixtures.py

writes `fixtures/<model>.safetensors` for every model, and `fixtures/deep_<model>.safetensors` for those with DeepCache:
per case the final latents (in the scheduler's scale), and the scheduler's sigmas. With `--check` nothing is written:
the stored files are compared with a new run, and the exit status is 1 where one differs by more than float rounding.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

sys.path.insert(0, str(Path(__file__).resolve().parent))

import published_deep
import published_pixart
import published_svd
import published_unet
from parity_cases import MODELS, STEPS, Case, cases
from parity_deep import DEEP_CASES, DEEP_GATED_CASES, DEEP_MODELS

FIXTURES = Path(__file__).resolve().parent / "fixtures"
ROUNDING = 1e-4  # of the latents' standard deviation; another machine's torch may sum in another order
# Each kind of model is a module with `build_pipeline` and `call_arguments`.
KINDS = {
    "sd15": published_unet,
    "sdxl": published_unet,
    "pixart_alpha": published_pixart,
    "pixart_sigma": published_pixart,
    "svd": published_svd,
}


def build_pipeline(kind: ModuleType, model: str) -> Any:
    pipeline = kind.build_pipeline(model)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def forget_captures(pipeline: Any) -> None:
    """The package keeps its captures on the attention modules for ever; a new run must not see them."""
    networks = (part for part in pipeline.components.values() if isinstance(part, torch.nn.Module))
    for module in (module for network in networks for module in network.modules()):
        if type(module).__name__ == "Attention":
            module.cache = None


def run_case(kind: ModuleType, model: str, pipeline: Any, case: Case) -> np.ndarray:
    """The final latents (batch or frames, 4, height, width) of the published package, or of plain diffusers."""
    forget_captures(pipeline)
    pipeline.scheduler.set_timesteps(STEPS)
    arguments = kind.call_arguments(model, case, pipeline)
    if case.schedule is None:
        with torch.no_grad():
            return final_latents(pipeline(**arguments))
    if case.cfg <= 1.0:
        arguments["lcm"] = True
    schedule = {
        "gate_step": case.schedule.gate,
        "sp_interval": case.schedule.sp_interval,
        "fi_interval": case.schedule.fi_interval,
        "warm_up": case.schedule.warm_up,
    }
    return final_latents(pipeline.tgate(**arguments, **schedule))


def final_latents(output: Any) -> np.ndarray:
    """What a pipeline answers, (batch or frames, 4, height, width); the frames of a video are of one video."""
    return (output.frames[0] if "frames" in output else output.images).numpy()


def run_model(model: str) -> dict[str, np.ndarray]:
    """Every case of a model by name, and the sigmas they ran on."""
    # Plain runs come from a pipeline whose attention modules the package never touched.
    kind = KINDS[model]
    plain, gated = build_pipeline(kind, model), build_pipeline(kind, model)
    latents = {case.name: run_case(kind, model, gated if case.schedule else plain, case) for case in cases(model)}
    return {"sigmas": plain.scheduler.sigmas.numpy(), **latents}


def run_deep_model(model: str) -> dict[str, np.ndarray]:
    """Every DeepCache case of a model by name, and the sigmas they ran on."""
    latents = {deep.name: published_deep.run_deep_case(model, deep) for deep in DEEP_CASES + DEEP_GATED_CASES}
    pipeline = published_unet.build_plain_pipeline(model)
    pipeline.scheduler.set_timesteps(STEPS)
    return {"sigmas": pipeline.scheduler.sigmas.numpy(), **latents}


def differences(stored: dict[str, np.ndarray], new: dict[str, np.ndarray]) -> list[str]:
    """A line per tensor that is missing, left over, or not the same to float rounding."""
    lines = [f"{name}: only in one of the two" for name in sorted(stored.keys() ^ new.keys())]
    for name in sorted(stored.keys() & new.keys()):
        if stored[name].shape != new[name].shape:
            lines.append(f"{name}: shape {stored[name].shape} became {new[name].shape}")
            continue
        ratio = float(np.abs(stored[name] - new[name]).max() / new[name].std())
        if not ratio <= ROUNDING:
            lines.append(f"{name}: differs by {ratio:.2e} of the standard deviation")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the parity fixtures with the published package.")
    parser.add_argument("--check", action="store_true", help="compare with a new run, write nothing")
    check = parser.parse_args().check
    torch.manual_seed(0)
    torch.set_num_threads(1)  # further ones take longer with models this small, and sum in another order
    FIXTURES.mkdir(exist_ok=True)
    failed = False
    makers = {model: partial(run_model, model) for model in MODELS}
    makers |= {f"deep_{model}": partial(run_deep_model, model) for model in DEEP_MODELS}
    for name, make in makers.items():
        path = FIXTURES / f"{name}.safetensors"
        tensors = make()
        if not check:
            save_file(tensors, path)
            print(f"{path.name}: {len(tensors)} tensors, {path.stat().st_size / 1024:.0f} KiB")
            continue
        lines = differences(load_file(path), tensors)
        failed = failed or bool(lines)
        print(f"{path.name}: " + ("as stored" if not lines else "; ".join(lines)))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
