"""The demo's part in the environment's python: a server, a workflow without and with T-GATE on it, the results."""

from __future__ import annotations

import argparse
import contextlib
import copy
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from safetensors import SafetensorError, safe_open

from ..cli import parse
from ..environment import PACK, current
from ..errors import UserError, exit_code
from ..progress import Stage, say
from ..prompts import Graph, GraphError, ObjectInfo, Prompt, choices_of, inputs_of, is_sampler, to_prompt
from ..scenes.checkpoint import FILE as SCENES
from ..scenes.checkpoint import ready_checkpoint
from ..server import PACK_NAME, Server, ServerError
from ..server_client import run_prompt
from . import checked, read_workflow
from .report import Report, Variant

METER = Path(__file__).with_name("meter")
APPLY, *_ = GATING_NODES = ("TGATEApply", "TGATEApplyAdvanced")
# What the weights of a checkpoint's UNet, VAE and text encoder begin with.
PARTS = ("model.diffusion_model.", "first_stage_model.", ("cond_stage_model.", "conditioner."))
# Without a graphics card, pictures of full size would take the better part of an hour.
LONGEST_SIDE_ON_CPU = 256
SIZE_STEP = 64
# For repeated runs; there is one of each variant in any case.
TIMING_SECONDS, MOST_ROUNDS = 60.0, 3
SCENE = "red circle left of blue square"
SCENE_SIDE = 256
TOY = (
    f"The checkpoint is a small network trained on drawn scenes, widened to SD 1.5's size: it paints two shapes, such "
    f"as '{SCENE}', in {SCENE_SIDE}x{SCENE_SIDE} pixels, and knows nothing else. --checkpoint FILE takes a real one."
)
SMALL = f"Without a graphics card no side of the pictures is longer than {LONGEST_SIDE_ON_CPU} pixels."


def run(job: argparse.Namespace) -> None:
    """The whole demo: the results go to `job.out`, the table to the output; `job` has the command's options.

    Raises:
        UserError, GraphError: the workflow cannot be run.
        ServerError: the server does not start, or fails.
    """
    environment, graph = current(), read_workflow(job.workflow)
    models = environment.comfyui / "models"
    if job.checkpoint:
        check(job.checkpoint)
    checkpoint = job.checkpoint or ready_checkpoint(environment)
    is_toy = checkpoint.name == SCENES
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tgate-demo-", ignore_cleanup_errors=True))
        server = Server(
            environment.python,
            environment.comfyui,
            Path(folder),
            custom_nodes={PACK_NAME: PACK, "tgate_dev_meter": METER},
            model_folders={"checkpoints": [checkpoint.parent, models / "checkpoints"], "loras": [models / "loras"]},
            arguments=() if has_gpu else ("--cpu",),
            log=job.out / "server.log",
        )
        log = ShownLog(server, job.verbose)
        with Stage(f"Starting ComfyUI {environment.comfyui_version}") as stage:
            server.on_wait = lambda: log.show(stage)
            stack.enter_context(server)
        side = SCENE_SIDE if is_toy else None if has_gpu else LONGEST_SIDE_ON_CPU
        prompts = make_prompts(graph, server.get_json("/object_info"), checkpoint.name, job.steps, side)
        if is_toy:
            say_instead(prompts, SCENE)
        remarks = [TOY] if is_toy else [SMALL] if side else []
        for remark in remarks:
            say(remark)
        variants = measure(log, prompts, job.out)
        device = server.get_json("/system_stats")["devices"][0]["name"]
    say("ComfyUI has been stopped.")
    facts = {"workflow": job.workflow.name, "checkpoint": checkpoint.name}
    facts |= settings(prompts["plain"], variants[0].picture)
    report = Report({**facts, "ComfyUI": f"{environment.comfyui_version} on {device}"}, remarks, variants)
    report.save(job.out)
    print(f"\n{report.table()}\n\nThe pictures, the table and the server's log are in {job.out}")


@dataclass
class ShownLog:
    """Signs of life while the server works; with `--verbose`, all that it writes."""

    server: Server
    is_verbose: bool
    _shown: int = 0

    def show(self, stage: Stage, detail: str = "") -> None:
        """What goes on in a stage, and what the server wrote since this was called last."""
        stage.update(detail)
        if self.is_verbose:
            written = self.server.written()
            stage.echo(written[self._shown :])
            self._shown = len(written)


def check(checkpoint: Path) -> None:
    """Refuse a checkpoint that cannot be used; of another format than safetensors, only the host can say.

    Raises:
        UserError: the text says what to do.
    """
    if checkpoint.suffix != ".safetensors":
        return
    try:
        with safe_open(checkpoint, "np") as file:
            names = list(file.keys())
    except (SafetensorError, OSError) as error:
        raise UserError(f"The checkpoint {checkpoint} is damaged ({error}): choose another file.") from error
    if not all(any(name.startswith(part) for name in names) for part in PARTS):
        raise UserError(
            f"{checkpoint} is not a whole checkpoint: choose one that holds UNet, text encoder and VAE, as an SD 1.5 "
            "or SDXL checkpoint does."
        )


def make_prompts(
    graph: Graph, object_info: ObjectInfo, checkpoint: str, steps: int | None, longest_side: int | None
) -> dict[str, Prompt]:
    """A workflow without T-GATE, "plain", and with each of its presets, made to fit the checkpoint and the machine.

    Args:
        graph: as saved by the editor.
        object_info: what the server says about its nodes.
        checkpoint: the checkpoint to use instead of the workflow's.
        steps: sampling steps, None for the workflow's.
        longest_side: pixels; larger pictures are made smaller.

    Raises:
        GraphError: the workflow cannot be turned into a prompt.
        UserError: it has no T-GATE to compare with, or no sampler.
    """
    gated = to_prompt(graph, object_info)
    gates = [node for node in gated.values() if node["class_type"] in GATING_NODES]
    if not gates or not any(map(is_sampler, gated.values())):
        raise UserError("The workflow has no active TGATE node, or no KSampler: choose one as in workflows/.")
    prompts = {"plain": to_prompt(graph, object_info, bypassed=GATING_NODES)}
    if any(gate["class_type"] != APPLY for gate in gates):
        prompts[" + ".join(gate["_meta"]["title"] for gate in gates)] = gated
    else:
        for preset in choices_of(inputs_of(object_info[APPLY])["preset"]):
            for gate in gates:
                gate["inputs"]["preset"] = preset
            prompts[preset] = copy.deepcopy(gated)
    for inputs in [node["inputs"] for prompt in prompts.values() for node in prompt.values()]:
        if "ckpt_name" in inputs:
            inputs["ckpt_name"] = checkpoint
        if steps is not None and "steps" in inputs:
            inputs["steps"] = steps
        if {"width", "height", "batch_size"} <= inputs.keys():
            inputs["width"], inputs["height"] = fitted((inputs["width"], inputs["height"]), longest_side)
    return prompts


def say_instead(prompts: dict[str, Prompt], text: str) -> None:
    """Put a text in place of the workflow's, and nothing in place of its negative one."""
    for prompt in prompts.values():
        negatives = [node["inputs"]["negative"][0] for node in prompt.values() if is_sampler(node)]
        for name, node in prompt.items():
            if node["class_type"] == "CLIPTextEncode":
                node["inputs"]["text"] = "" if name in negatives else text


def settings(prompt: Prompt, picture: Path) -> dict[str, str]:
    """What is sampled, for the report."""
    inputs = next(node["inputs"] for node in prompt.values() if is_sampler(node))
    sampling = f"{inputs['steps']} steps, {inputs['sampler_name']}, {inputs['scheduler']}, cfg {inputs['cfg']}"
    size = "{}x{} pixels".format(*Image.open(picture).size)
    return {"picture": size, "sampling": sampling, "seed": str(inputs["seed"])}


def fitted(size: tuple[int, int], longest_side: int | None) -> tuple[int, int]:
    """Width and height in the same proportion, in whole steps of 64 pixels, no side longer than `longest_side`."""
    if longest_side is None or max(size) <= longest_side:
        return size
    width, height = (max(1, round(side * longest_side / max(size) / SIZE_STEP)) * SIZE_STEP for side in size)
    return width, height


def measure(log: ShownLog, prompts: dict[str, Prompt], out: Path) -> list[Variant]:
    """Run all prompts in turns, after one run that loads the models; the pictures go to `out`."""
    variants = [Variant(name) for name in prompts]
    first = _run(log, metered(prompts["plain"]), Variant("plain, loading the models"), out)
    rounds = min(MOST_ROUNDS, max(1, int(TIMING_SECONDS // (first * len(variants)))))
    for _ in range(rounds):
        for variant in variants:
            _run(log, metered(prompts[variant.name]), variant, out)
    return variants


def _run(log: ShownLog, prompt: Prompt, variant: Variant, out: Path) -> float:
    """Run a prompt once and keep what came of it; returns how long it took, in seconds."""
    with Stage(variant.name) as stage:

        def show(node: str, share: float) -> None:
            log.show(stage, f"{prompt[node]['class_type']} {share:.0%}")

        run = run_prompt(log.server, prompt, show)
    variant.measured = [message["data"] for message in run.messages if message["type"] == "tgate_dev.measured"][-1]
    variant.seconds.append(variant.measured.pop("seconds"))
    variant.picture = Path(shutil.copyfile(run.pictures[0], out / f"{variant.name.replace(' ', '-')}.png"))
    return run.seconds


def metered(prompt: Prompt) -> Prompt:
    """A copy of a prompt with the meter before each sampler."""
    prompt = copy.deepcopy(prompt)
    for number, sampler in enumerate([node for node in prompt.values() if is_sampler(node)]):
        inputs = {"model": sampler["inputs"]["model"]}
        prompt[f"meter{number}"] = {"class_type": "TGATEDevMeter", "inputs": inputs}
        sampler["inputs"]["model"] = [f"meter{number}", 0]
    return prompt


def main(job: argparse.Namespace) -> int:
    """Run a job.

    Raises:
        UserError: it cannot be run.
    """
    try:
        run(job)
    except (GraphError, ServerError) as error:
        log = job.out / "server.log"
        raise UserError(f"ComfyUI could not run {job.workflow.name}: {error} (its log is {log})") from error
    return 0


if __name__ == "__main__":
    OPTIONS = parse(sys.argv[1:])
    sys.exit(exit_code(lambda: main(checked(OPTIONS)), OPTIONS.verbose))
