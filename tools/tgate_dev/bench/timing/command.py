"""Runs `bench time`."""

from __future__ import annotations

import argparse
import importlib
import platform

import torch

from ..pack import Nodes
from ..unets import PIXELS_PER_LATENT
from .models import SEED, build_random, random_conditioning, random_noise, timed_model
from .rounds import Measurement
from .rows import make_rows, peer_rows, usual_gate
from .sampling import CFG, SAMPLER, SCHEDULER, Task
from .table import as_json, as_markdown


def run(options: argparse.Namespace, nodes: Nodes) -> None:
    """Measure, print the table, and write it and all numbers to `options.out`.

    Args:
        options: see `options.add_arguments`; `device` is set.
        nodes: the pack's nodes by id.

    Raises:
        UserError: a folder given as another pack is none.
    """
    device = torch.device(options.device)
    is_gpu = device.type == "cuda"
    model = timed_model(options.model, device)
    patcher = build_random(model, device, torch.float16 if is_gpu else torch.float32)
    gate = usual_gate(patcher, options.steps, nodes)
    rows = [*make_rows(nodes, gate), *peer_rows(options.peers, gate)]
    settings = {
        "model": options.model,
        "pixels": model.latent_shape[-1] * PIXELS_PER_LATENT,
        "steps": options.steps,
        "gate": gate.step,
        "dtype": "fp16" if is_gpu else "fp32",
        "device_name": torch.cuda.get_device_name(device) if is_gpu else f"CPU, {torch.get_num_threads()} threads",
        "processor": platform.processor() or platform.machine(),
        "attention": importlib.import_module("comfy.ldm.modules.attention").optimized_attention.__name__,
        "sampling": f"{SAMPLER}, {SCHEDULER}, cfg {CFG}",
        "versions": f"torch {torch.__version__}, ComfyUI {importlib.import_module('comfyui_version').__version__}",
    }
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "time-{model}-{pixels}-{dtype}.md".format(**settings)
    task = Task(device, random_noise(model, 1), *(random_conditioning(model, SEED + number) for number in (1, 2)))
    # As in the host's server; otherwise torch would keep activations for gradients.
    with torch.inference_mode():
        measurement = Measurement(patcher, task, options.steps, rows, nodes)
        measurement.warm_up()
        for number in range(1, options.runs + 1):
            measurement.run_round(f"round {number} of {options.runs}")
            # After each round, so that an interrupted measurement leaves its results.
            results.write_text(as_markdown(settings, rows), encoding="utf-8")
            results.with_suffix(".json").write_text(as_json(settings, rows), encoding="utf-8")
    print(as_markdown(settings, rows), f"This table is in {results}, all numbers in its .json.", sep="\n")
