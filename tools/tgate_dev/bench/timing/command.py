"""`bench time` from its options to its results."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ...progress import Stage, say
from ..pack import pack_core
from ..unets import PIXELS_PER_LATENT
from .chart import save_chart
from .models import DTYPES, SEED, build_random, random_conditioning, random_noise, timed_model
from .options import TimeOptions
from .peers import peer_rows
from .records import Results
from .report import as_json, markdown_table, text_table
from .rounds import Measurement
from .rows import OwnNodes, make_rows
from .sampling import SAMPLER, SCHEDULER, Task

CFG = 7.0
RANDOM_WEIGHTS = "Random weights: seconds do not depend on them; pictures are none."


def run(options: TimeOptions, nodes: Mapping[str, type[Any]]) -> int:
    """Measure, print the table, and write JSON and chart to `options.out`; returns the exit code.

    Args:
        options: what was asked for; `device` is settled.
        nodes: the pack's node classes by id.
    """
    device = torch.device(options.device or "cpu")
    options.out.mkdir(parents=True, exist_ok=True)
    name = options.model or ("standin" if device.type == "cpu" else "sd15")
    model = timed_model(name, options.pixels, device)
    dtype = options.dtype or ("fp32" if device.type == "cpu" else "fp16")
    with Stage(f"Making {name} with random weights"):
        patcher = build_random(model, device, DTYPES[dtype])
    own = OwnNodes(nodes)
    gate = own.gate(patcher, options.steps)
    rows, remarks = make_rows(own, gate)
    foreign, about_peers = peer_rows(options.peers, gate)
    settings = {
        "model": name,
        "dtype": dtype,
        "batch": options.batch,
        "pixels": model.latent_shape[-1] * PIXELS_PER_LATENT,
        "steps": options.steps,
        "runs": options.runs,
        "gate": gate.step,
        **_surroundings(device),
    }
    results = Results(settings, [RANDOM_WEIGHTS, *remarks, *about_peers], [*rows, *foreign])
    task = Task(
        device,
        random_noise(model, options.batch),
        random_conditioning(model, SEED + 1),
        random_conditioning(model, SEED + 2),
        CFG,
    )
    _measure(partial(Measurement, patcher, task, results, pack_core(nodes)), results, options)
    return 0


def _measure(prepare: Callable[[], Measurement], results: Results, options: TimeOptions) -> None:
    stem = _stem(options.out, results)
    # As in the host's server: otherwise torch would keep, for gradients, what each layer was given.
    with torch.inference_mode():
        measurement = prepare()
        with Stage("Warming up"):
            measurement.warm_up()
        for number in range(1, options.runs + 1):
            measurement.run_round(f"round {number} of {options.runs}")
            # After each round: a measurement that is cut off leaves what it has.
            _save(results, stem)
    print(text_table(results))
    say(f"The table, all numbers and the chart are in {stem}.txt, .md, .json and .png")


def _save(results: Results, stem: Path) -> None:
    stem.with_suffix(".json").write_text(as_json(results), encoding="utf-8")
    stem.with_suffix(".txt").write_text(text_table(results) + "\n", encoding="utf-8")
    stem.with_suffix(".md").write_text(markdown_table(results) + "\n", encoding="utf-8")
    save_chart(results, stem.with_suffix(".png"))


def _stem(out: Path, results: Results) -> Path:
    """The results' path but for its suffix, named by what was measured."""
    s = results.settings
    return out / f"time-{s['model']}-{s['pixels']}-{s['device']}-{s['dtype']}"


def _surroundings(device: torch.device) -> dict[str, Any]:
    """What the numbers depend on beside the options."""
    attention = importlib.import_module("comfy.ldm.modules.attention").optimized_attention
    is_gpu = device.type == "cuda"
    return {
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if is_gpu else f"CPU, {torch.get_num_threads()} threads",
        "processor": platform.processor() or platform.machine(),
        "attention": attention.__name__,
        "sampler": SAMPLER,
        "scheduler": SCHEDULER,
        "cfg": CFG,
        "torch": torch.__version__,
        "comfyui": importlib.import_module("comfyui_version").__version__,
        "python": platform.python_version(),
    }
