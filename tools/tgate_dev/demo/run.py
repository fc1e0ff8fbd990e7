"""The demo's part in the environment's python: a server, a workflow without and with T-GATE on it, the results."""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import shutil
import signal
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ..environment import PACK, Environment
from ..errors import UserError
from ..progress import Stage, say
from ..prompts import Graph, GraphError, ObjectInfo, Prompt, is_sampler, to_prompt
from ..server import PACK_NAME, Server, ServerError
from ..server_client import PromptRun, run_prompt
from . import read_workflow
from .report import Report, Variant
from .standin import FILE as STANDIN
from .standin import ready_standin

METER = Path(__file__).with_name("meter")
GATING_NODES = ("TGATEApply", "TGATEApplyAdvanced")
# What the weights of a checkpoint's UNet, VAE and text encoder begin with.
PARTS = ("model.diffusion_model.", "first_stage_model.", ("cond_stage_model.", "conditioner."))
# Width of the text that the UNet reads; SD 2 has 1024, SDXL 2048.
SD15_TEXT_WIDTH = 768
# Without a graphics card, pictures of full size would take the better part of an hour.
LONGEST_SIDE_ON_CPU = 256
SIZE_STEP = 64
# For repeated runs; there is one of each variant in any case.
TIMING_SECONDS, MOST_ROUNDS = 90.0, 3
BAD_USE, INTERRUPTED, TERMINATED = 2, 130, 143
RANDOM_WEIGHTS = (
    "The weights are random, a stand-in for an SD 1.5 checkpoint: the pictures are texture and say nothing about "
    "quality. Use --checkpoint FILE for real ones."
)


def run(job: argparse.Namespace, environment: Environment) -> None:
    """The whole demo: the results go to `job.out`, the table to the output.

    Args:
        job: the command's options, with absolute paths.
        environment: the one that this runs in.

    Raises:
        UserError, GraphError: the workflow cannot be run.
        ServerError: the server does not start, or fails.
    """
    graph, models = read_workflow(job.workflow), environment.comfyui / "models"
    if job.checkpoint:
        check(job.checkpoint)
    checkpoint = job.checkpoint or found(models / "checkpoints", checkpoint_name(graph)) or ready_standin(environment)
    is_random = checkpoint.name == STANDIN
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
        demo = Demo(server, job.out, job.verbose)
        with Stage(f"Starting ComfyUI {environment.comfyui_version}") as stage:
            server.on_wait = lambda: demo.show(stage)
            stack.enter_context(server)
        side = None if has_gpu else LONGEST_SIDE_ON_CPU
        pair = make_pair(graph, server.get_json("/object_info"), checkpoint.name, job.steps, side)
        remarks = [*([RANDOM_WEIGHTS] if is_random else []), *pair.remarks()]
        for remark in remarks:
            say(remark)
        plain, gated = demo.run(pair)
        settings = {
            "workflow": job.workflow.name,
            "checkpoint": checkpoint.name + (" (random weights)" if is_random else ""),
            **pair.settings(),
            "ComfyUI": f"{environment.comfyui_version} on {server.get_json('/system_stats')['devices'][0]['name']}",
        }
    say("ComfyUI has been stopped.")
    report = Report(settings, remarks, plain, gated)
    report.save(job.out)
    print(f"\n{report.table()}\n\nThe pictures, the table and the server's log are in {job.out}")


class Demo:
    """Runs of two prompts on one server."""

    def __init__(self, server: Server, out: Path, is_verbose: bool) -> None:
        """`out` is for the pictures; `is_verbose` shows all that the server writes."""
        self._server, self._out, self._is_verbose, self._shown = server, out, is_verbose, 0

    def show(self, stage: Stage, detail: str = "") -> None:
        """A sign of life, or all that the server wrote."""
        stage.update(detail)
        if self._is_verbose:
            written = self._server.written()
            stage.echo(written[self._shown :])
            self._shown = len(written)

    def run(self, pair: Pair) -> tuple[Variant, Variant]:
        """Count both variants, then time them in turns; counting also warms everything up."""
        plain, gated = Variant("plain"), Variant(pair.gate)
        variants = ((plain, pair.plain, "plain.png"), (gated, pair.gated, "tgate.png"))
        counting_seconds = 0.0
        for variant, prompt, _ in variants:
            run, variant.measured = self._measure(prompt, f"{variant.name}, counting", is_counted=True)
            counting_seconds += run.seconds
        rounds = min(MOST_ROUNDS, max(1, int(TIMING_SECONDS // counting_seconds)))
        for number in range(1, rounds + 1):
            for variant, prompt, picture in variants:
                run, measured = self._measure(prompt, f"{variant.name}, timing {number} of {rounds}", is_counted=False)
                variant.sampling_seconds.append(measured["seconds"])
                variant.prompt_seconds.append(run.seconds)
                variant.picture = Path(shutil.copyfile(run.pictures[0], self._out / picture))
        return plain, gated

    def _measure(self, prompt: Prompt, title: str, is_counted: bool) -> tuple[PromptRun, dict[str, Any]]:
        """Run a prompt; returns what came of it, and what the meter tells of its last sampler."""
        prompt = metered(prompt, is_counted)
        with Stage(title) as stage:

            def show(node: str, share: float) -> None:
                self.show(stage, f"{prompt[node]['class_type']} {share:.0%}")

            run = run_prompt(self._server, prompt, show)
        return run, [message["data"] for message in run.messages if message["type"] == "tgate_dev.measured"][-1]


@dataclass(frozen=True)
class Pair:
    """One workflow as two prompts."""

    plain: Prompt  # T-GATE's nodes bypassed
    gated: Prompt
    gate: str  # what the gating node is called
    size: tuple[int, int]  # of the picture, in pixels
    own_size: tuple[int, int]  # the workflow's

    def settings(self) -> dict[str, str]:
        """What is sampled, for the report."""
        inputs = next(node["inputs"] for node in self.gated.values() if is_sampler(node))
        sampling = f"{inputs['steps']} steps, {inputs['sampler_name']}, {inputs['scheduler']}, cfg {inputs['cfg']}"
        return {"picture": "{}x{} pixels".format(*self.size), "sampling": sampling, "seed": str(inputs["seed"])}

    def remarks(self) -> list[str]:
        """What was changed for want of a graphics card."""
        sizes = "{}x{} pixels instead of {}x{}".format(*self.size, *self.own_size)
        return [] if self.size == self.own_size else [f"Without a graphics card the pictures are {sizes}."]


def make_pair(
    graph: Graph, object_info: ObjectInfo, checkpoint: str, steps: int | None, longest_side: int | None
) -> Pair:
    """The two prompts of a workflow, made to fit the checkpoint and the machine.

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
    plain = to_prompt(graph, object_info, bypassed=GATING_NODES)
    gates = [node["_meta"]["title"] for node in gated.values() if node["class_type"] in GATING_NODES]
    if not gates or not any(map(is_sampler, gated.values())):
        raise UserError("The workflow has no active TGATE node, or no KSampler: choose one as in workflows/.")
    own_size = size = (0, 0)
    for inputs in [node["inputs"] for prompt in (plain, gated) for node in prompt.values()]:
        if "ckpt_name" in inputs:
            inputs["ckpt_name"] = checkpoint
        if steps is not None and "steps" in inputs:
            inputs["steps"] = steps
        if {"width", "height", "batch_size"} <= inputs.keys():
            own_size = inputs["width"], inputs["height"]
            size = inputs["width"], inputs["height"] = fitted(own_size, longest_side)
    return Pair(plain, gated, " + ".join(gates), size, own_size)


def fitted(size: tuple[int, int], longest_side: int | None) -> tuple[int, int]:
    """Width and height in the same proportion, in whole steps of 64 pixels, no side longer than `longest_side`."""
    if longest_side is None or max(size) <= longest_side:
        return size
    width, height = (max(1, round(side * longest_side / max(size) / SIZE_STEP)) * SIZE_STEP for side in size)
    return width, height


def metered(prompt: Prompt, is_counted: bool) -> Prompt:
    """A copy of a prompt with the meter before each sampler."""
    prompt = copy.deepcopy(prompt)
    for number, sampler in enumerate([node for node in prompt.values() if is_sampler(node)]):
        inputs = {"model": sampler["inputs"]["model"], "is_counted": is_counted}
        prompt[f"meter{number}"] = {"class_type": "TGATEDevMeter", "inputs": inputs}
        sampler["inputs"]["model"] = [f"meter{number}", 0]
    return prompt


def checkpoint_name(graph: Graph) -> str:
    """The checkpoint that a saved workflow names; empty where it names none."""
    loaders = (node for node in graph["nodes"] if node["type"] == "CheckpointLoaderSimple")
    return next((str(node["widgets_values"][0]) for node in loaders if node.get("widgets_values")), "")


def text_width(checkpoint: Path) -> int | None:
    """Width of the text that a checkpoint's UNet reads; None if UNet, VAE or text encoder are missing.

    Raises:
        SafetensorError, OSError: it is no safetensors file, or not all of it is there.
    """
    with safe_open(checkpoint, "np") as file:
        names = list(file.keys())
        is_whole = all(any(name.startswith(part) for name in names) for part in PARTS)
        readers = [name for name in names if name.startswith(PARTS[0]) and name.endswith("attn2.to_k.weight")]
        return int(file.get_slice(readers[0]).get_shape()[1]) if is_whole and readers else None


def check(checkpoint: Path) -> None:
    """Refuse a checkpoint that cannot be used; of another format than safetensors, only the host can say.

    Raises:
        UserError: the text says what to do.
    """
    try:
        if checkpoint.suffix == ".safetensors" and text_width(checkpoint) is None:
            raise UserError(
                f"{checkpoint} is not a whole checkpoint: choose one that holds UNet, text encoder and VAE, as an SD "
                "1.5 or SDXL checkpoint does."
            )
    except (SafetensorError, OSError) as error:
        raise UserError(f"The checkpoint {checkpoint} is damaged ({error}): choose another file.") from error


def found(folder: Path, wanted: str) -> Path | None:
    """A checkpoint in a folder: the one that a workflow names, else the first of the SD 1.5 family."""

    def fits(path: Path) -> bool:
        try:
            width = text_width(path)
        except (SafetensorError, OSError):
            return False
        return width is not None if path == folder / wanted else width == SD15_TEXT_WIDTH

    return next(filter(fits, [folder / wanted, *sorted(folder.glob("**/*.safetensors"))]), None)


def main(text: str) -> int:
    """Run a job from its JSON; 2 for what the user can put right."""
    job = argparse.Namespace(**json.loads(text))
    job.workflow, job.out, job.checkpoint = Path(job.workflow), Path(job.out), job.checkpoint and Path(job.checkpoint)
    environment = Environment(Path(sys.executable), Path(job.comfyui), job.comfyui_version)
    # An exception, so that the server is stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        run(job, environment)
    except (UserError, GraphError, ServerError) as error:
        if job.verbose:
            traceback.print_exc()
        log = f"ComfyUI could not run {job.workflow.name}: {error} (its log is {job.out / 'server.log'})"
        say(str(error) if isinstance(error, UserError) else log)
        return BAD_USE
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
