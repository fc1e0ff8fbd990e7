"""The part of the demo that runs in the environment's python: server, runs, report."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from .demo_prompts import Pair, make_pair, metered, sampler
from .demo_report import Report, Variant, save_side_by_side
from .errors import UserError
from .progress import Stage, say
from .server import Server, ServerError
from .server_client import FailedNodeError, PromptRun, RefusedPromptError, run_prompt
from .server_graph import GraphError, Prompt

PACK = Path(__file__).absolute().parents[2]
CUSTOM_NODES = {"comfyui-tgate-nodes": PACK, "tgate_dev_meter": PACK / "tools" / "tgate_dev" / "meter"}
# Without a graphics card, pictures of full size would take the better part of an hour.
LONGEST_SIDE_ON_CPU = 256
# What repeated runs may take; there is one of each variant in any case.
TIMING_SECONDS = 90.0
MOST_ROUNDS = 3
# Threads that wait in a loop for the slowest one make it slower still where other programs want the processor too:
# on two busy cores a step took up to eight times as long.
WAIT_WITHOUT_SPINNING = {"OMP_WAIT_POLICY": "PASSIVE"}
BAD_USE = 2
INTERRUPTED = 130
TERMINATED = 143


@dataclass(frozen=True)
class Job:
    """What to run; paths are absolute.

    Attributes:
        comfyui: the host's tree.
        comfyui_version: its version.
        workflow: a graph as saved by the editor.
        checkpoint: the checkpoint to use in it.
        is_standin: whether that checkpoint has random weights.
        steps: sampling steps, None for the workflow's.
        out: folder for the results.
        verbose: whether everything the server writes is shown.
    """

    comfyui: Path
    comfyui_version: str
    workflow: Path
    checkpoint: Path
    is_standin: bool
    steps: int | None
    out: Path
    verbose: bool


class Demo:
    """The runs of one pair of prompts on one server."""

    def __init__(self, server: Server, pair: Pair, folder: Path, watch: Callable[[Stage], None]) -> None:
        """
        Args:
            server: where they run.
            pair: what runs.
            folder: for the meter's files.
            watch: called while a stage lasts.
        """
        self._server, self._folder, self._watch = server, folder, watch
        self.plain, self.gated = Variant("plain"), Variant(pair.gate)
        self._variants = ((self.plain, pair.plain), (self.gated, pair.gated))

    def run(self) -> None:
        """Count both variants, then time them in turns; counting also warms everything up."""
        counting_seconds = sum(self._count(variant, prompt) for variant, prompt in self._variants)
        rounds = min(MOST_ROUNDS, max(1, int(TIMING_SECONDS // counting_seconds)))
        for number in range(1, rounds + 1):
            for variant, prompt in self._variants:
                self._time(variant, prompt, f"{number} of {rounds}")

    def _count(self, variant: Variant, prompt: Prompt) -> float:
        result = self._folder / "measurement.json"
        run = self._follow(metered(prompt, str(result), "count"), f"{variant.name}, counting")
        variant.measured = json.loads(result.read_text(encoding="utf-8"))
        return run.seconds

    def _time(self, variant: Variant, prompt: Prompt, number: str) -> None:
        run = self._follow(metered(prompt, "", number), f"{variant.name}, timing {number}")
        variant.sampling_seconds.append(run.node_seconds[sampler(prompt)[0]])
        variant.prompt_seconds.append(run.seconds)
        variant.picture = run.pictures[0]

    def _follow(self, prompt: Prompt, title: str) -> PromptRun:
        with Stage(title) as stage:

            def show(node: str, share: float) -> None:
                stage.update(f"{prompt[node]['class_type']} {share:.0%}")
                self._watch(stage)

            return run_prompt(self._server, prompt, show)


def run(job: Job) -> None:
    """The whole demo; results go to `job.out`, the table to the output.

    Raises:
        UserError, GraphError: the workflow cannot be run.
        ServerError: the server does not start, or fails.
    """
    with tempfile.TemporaryDirectory(prefix="tgate-demo-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        has_gpu = _has_gpu()
        server = _server(job, folder, has_gpu)
        log = _LogFollower(server.log) if job.verbose else None
        with Stage(f"Starting ComfyUI {job.comfyui_version}") as stage:
            server.on_wait = lambda seconds: _watch(stage, log)
            server.start()
        try:
            report = _report(job, server, folder, has_gpu, log)
        finally:
            server.stop()
    say("ComfyUI has been stopped.")
    _write(report, job.out)


def _report(job: Job, server: Server, folder: Path, has_gpu: bool, log: _LogFollower | None) -> Report:
    graph = json.loads(job.workflow.read_text(encoding="utf-8"))
    longest_side = None if has_gpu else LONGEST_SIDE_ON_CPU
    pair = make_pair(graph, server.get_json("/object_info"), job.checkpoint.name, job.steps, longest_side)
    remarks = _remarks(job, pair)
    for remark in remarks:
        say(remark)
    demo = Demo(server, pair, folder, lambda stage: _watch(stage, log))
    demo.run()
    for variant, name in ((demo.plain, "plain.png"), (demo.gated, "tgate.png")):
        variant.picture = Path(shutil.copyfile(variant.picture, job.out / name))
    return Report(_settings(job, pair, server), remarks, demo.plain, demo.gated)


def _server(job: Job, folder: Path, has_gpu: bool) -> Server:
    models = job.comfyui / "models"
    return Server(
        python=Path(sys.executable),
        comfyui=job.comfyui,
        base=folder / "comfyui",
        log=job.out / "server.log",
        custom_nodes=CUSTOM_NODES,
        model_folders={"checkpoints": [job.checkpoint.parent, models / "checkpoints"], "loras": [models / "loras"]},
        arguments=() if has_gpu else ("--cpu",),
        variables={**os.environ, **WAIT_WITHOUT_SPINNING},
    )


def _has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available() or torch.backends.mps.is_available())


def _remarks(job: Job, pair: Pair) -> list[str]:
    remarks = []
    if job.is_standin:
        remarks.append(
            "The weights are random, a stand-in for an SD 1.5 checkpoint: the pictures are texture and say nothing "
            "about quality. Use --checkpoint FILE for real ones."
        )
    if pair.size != pair.own_size:
        remarks.append(
            f"Without a graphics card the pictures are {_size(pair.size)} pixels instead of {_size(pair.own_size)}."
        )
    return remarks


def _settings(job: Job, pair: Pair, server: Server) -> dict[str, str]:
    _, inputs = sampler(pair.gated)
    device = server.get_json("/system_stats")["devices"][0]["name"]
    return {
        "workflow": job.workflow.name,
        "checkpoint": job.checkpoint.name + (" (random weights)" if job.is_standin else ""),
        "picture": f"{_size(pair.size)} pixels",
        "sampling": f"{inputs['steps']} steps, {inputs['sampler_name']}, {inputs['scheduler']}, cfg {inputs['cfg']}",
        "seed": str(inputs["seed"]),
        "ComfyUI": f"{job.comfyui_version} on {device}",
    }


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _write(report: Report, out: Path) -> None:
    save_side_by_side((report.plain, report.gated), report.remarks, out / "side-by-side.png")
    (out / "table.md").write_text(report.markdown(), encoding="utf-8")
    (out / "table.json").write_text(report.json(), encoding="utf-8")
    print(f"\n{report.text_table()}\n\nThe pictures, the table and the server's log are in {out}")


class _LogFollower:
    """Shows what is new in a log file."""

    def __init__(self, log: Path) -> None:
        self._log, self._position = log, 0

    def show_new(self, stage: Stage) -> None:
        with self._log.open("rb") as file:
            file.seek(self._position)
            new = file.read()
        self._position += len(new)
        if new:
            stage.echo(new.decode(errors="replace"))


def _watch(stage: Stage, log: _LogFollower | None) -> None:
    stage.update("")
    if log is not None:
        log.show_new(stage)


def main() -> int:
    """Command line of this process, which `demo.py` fills in; 2 for what the user can put right."""
    job = _job()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        run(job)
    except (UserError, GraphError, ServerError) as error:
        if job.verbose:
            traceback.print_exc()
        say(_sentence(error, job))
        return BAD_USE
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _sentence(error: Exception, job: Job) -> str:
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, GraphError):
        return f"The workflow {job.workflow} cannot be used, for {error}: choose another one."
    log = f"its log is {job.out / 'server.log'}"
    if isinstance(error, FailedNodeError) and error.node_type == "CheckpointLoaderSimple":
        return f"ComfyUI cannot read the checkpoint {job.checkpoint}: choose another file ({log})."
    if isinstance(error, RefusedPromptError) and error.missing_files:
        files = " and ".join(error.missing_files)
        return (
            f"The workflow needs {files}: put it in its place in {job.comfyui / 'models'}, or choose another workflow."
        )
    return f"ComfyUI could not run {job.workflow.name}: {error} ({log})."


def _job() -> Job:
    parser = argparse.ArgumentParser(prog="demo_run")
    for name in ("comfyui", "workflow", "checkpoint", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--comfyui-version", required=True)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--is-standin", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    values: dict[str, Any] = vars(parser.parse_args())
    return Job(**values)


def _terminate(number: int, frame: FrameType | None) -> None:
    # An exception, so that the server is stopped on the way out.
    sys.exit(TERMINATED)


if __name__ == "__main__":
    sys.exit(main())
