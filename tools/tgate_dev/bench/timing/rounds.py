"""`bench time`: every row in rounds, its steps interleaved with those of the oracle and the plain model."""

from __future__ import annotations

import argparse
import importlib
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial

import torch
from comfy.model_patcher import ModelPatcher

from ...errors import UserError
from ..models import PIXELS_PER_LATENT, FullSizeModel
from ..pack import Nodes
from .compiling import SETTINGS, prepare_compiler
from .networks import SEED, build_random, random_conditioning, random_noise, timed_model, twin, without_attentions
from .results import Oracle, Round, Row, RunRecord, as_json, as_markdown
from .rows import Patch, make_rows, peer_rows, usual_gate
from .sampling import CFG, SAMPLER, SCHEDULER, Task, count_syncs, sigmas, timed_run, with_peak

WARM_UP_STEPS = 2
PLAIN = Oracle(frozenset(), branches=2)


def measure(options: argparse.Namespace, nodes: Nodes) -> int:
    """Measure, print the table, and write it and all numbers to `options.out`.

    Raises:
        UserError: a folder given as another pack is none.
    """
    device = torch.device(options.device)
    is_gpu = device.type == "cuda"
    model = timed_model(options.model, device)
    patcher = build_random(model, device, torch.float16 if is_gpu else torch.float32)
    gate = usual_gate(patcher, options.steps, nodes)
    rows = chosen_rows([*make_rows(nodes, gate, patcher), *peer_rows(options.peers, gate)], options.rows)
    settings = {
        "model": options.model,
        "pixels": model.latent_shape[-1] * PIXELS_PER_LATENT,
        "steps": options.steps,
        "gate": gate.step,
        "dtype": "fp16" if is_gpu else "fp32",
        "attention": importlib.import_module("comfy.ldm.modules.attention").optimized_attention.__name__,
        **machine(device),
    }
    if options.compile:
        settings["compiled"] = options.compile
        prepare_compiler()
    title = "{model}, {pixels} × {pixels} pixels, {steps} steps, {dtype}, {device_name}"
    settings["title"] = title.format(**settings) + (f", {options.compile} compiled" if options.compile else "")
    options.out.mkdir(parents=True, exist_ok=True)
    name = "time-{model}-{pixels}-{dtype}".format(**settings) + (
        f"-compiled-{options.compile}" if options.compile else ""
    )
    results = options.out / f"{name}.md"
    task = random_task(model, device)
    # As in the host's server; otherwise torch would keep activations for gradients.
    with torch.inference_mode():
        setting = SETTINGS[options.compile] if options.compile else _as_it_is
        measurement = Measurement(patcher, task, options.steps, rows, nodes, setting, bool(options.compile))
        measurement.warm_up()
        for number in range(1, options.runs + 1):
            measurement.run_round(f"round {number} of {options.runs}")
            # After each round, so that an interrupted measurement leaves its results.
            results.write_text(as_markdown(settings, rows), encoding="utf-8")
            results.with_suffix(".json").write_text(as_json(settings, rows), encoding="utf-8")
    print(as_markdown(settings, rows), f"This table is in {results}, all numbers in its .json.", sep="\n")
    return 0


def chosen_rows(rows: Sequence[Row], patterns: Sequence[str]) -> list[Row]:
    """The plain row, and those of these names.

    Raises:
        UserError: there is none of a name.
    """
    for pattern in patterns:
        if not any(fnmatchcase(row.name, pattern) for row in rows):
            raise UserError(f"--rows: there is no row {pattern}: choose of {'; '.join(row.name for row in rows)}.")
    return [row for row in rows if row is rows[0] or any(fnmatchcase(row.name, pattern) for pattern in patterns)]


def _as_it_is(model: ModelPatcher) -> ModelPatcher:
    return model


def machine(device: torch.device) -> dict[str, str]:
    """What the figures depend on besides the model."""
    is_gpu = device.type == "cuda"
    return {
        "device_name": torch.cuda.get_device_name(device) if is_gpu else f"CPU, {torch.get_num_threads()} threads",
        "processor": platform.processor() or platform.machine(),
        "sampling": f"{SAMPLER}, {SCHEDULER}, cfg {CFG}",
        "versions": f"torch {torch.__version__}, ComfyUI {importlib.import_module('comfyui_version').__version__}",
    }


def random_task(model: FullSizeModel, device: torch.device, batch: int = 1) -> Task:
    """Seeded noise and text for a model."""
    texts = (random_conditioning(model, SEED + number) for number in (1, 2))
    return Task(device, random_noise(model, batch), *texts)


class Measurement:
    """The rows of one model, which collect their rounds, and their oracles; the model was not sampled yet.

    All of them run on what `setting` makes of a model, such as a compiled one.
    """

    def __init__(
        self,
        model: ModelPatcher,
        task: Task,
        steps: int,
        rows: Sequence[Row],
        nodes: Nodes,
        setting: Patch = _as_it_is,
        is_compiled: bool = False,
    ) -> None:
        self._is_compiled = is_compiled
        self._task, self._rows, self._nodes = task, rows, nodes
        self._schedule = sigmas(model, steps)
        # Steps of each row that are compared with its oracle.
        self._like_oracle: dict[str, list[int]] = {}
        ideal, own = twin(model), twin(model)
        # Other packs may modify their network for good.
        patched = {row.name: row.patch(twin(model) if row.is_foreign else own) for row in rows}
        self._patched = {name: setting(model) for name, model in patched.items()}
        self._plain, self._ideal = setting(model), setting(ideal)

    def warm_up(self) -> None:
        """`warm_up_row` for each."""
        for row in self._rows:
            self.warm_up_row(row)

    def warm_up_row(self, row: Row) -> None:
        """Untimed runs, which also measure peak memory: GPU libraries choose kernels by shape, the CPU maps memory."""
        arguments = timed_run, self._patched[row.name], self._task, self._schedule
        if (waits := count_syncs(self._task.device, *arguments)) is not None:
            row.syncs = waits / (len(self._schedule) - 1)
        record, row.peak_bytes = with_peak(self._task.device, *arguments)
        if self._is_compiled:
            # Where memory was counted nothing is compiled.
            timed_run(self._patched[row.name], self._task, self._schedule)
        self._like_oracle[row.name] = record.steps_like(row.oracle)
        start = self._schedule[: WARM_UP_STEPS + 1]
        timed_run(self._plain, self._task, start)
        with self._oracle(row.oracle or PLAIN) as run:
            run(start)

    def run_round(self, title: str) -> None:
        """`run_row` for each."""
        for row in self._rows:
            self.run_row(row, title)

    def run_row(self, row: Row, title: str) -> None:
        """Run a row once. The plain row too: how far its ratio is from 1 is the noise of the others."""
        row.rounds.append(self._run_beside(row))
        sys.stderr.write(f"{title}: {row.name}, {sum(row.rounds[-1].run.step_seconds):.2f} s\n")

    def _run_beside(self, row: Row) -> Round:
        """All in one thread: allocators and worker pools differ between threads."""
        plain: dict[int, float] = {}
        at_best: dict[int, float] = {}
        run_plain: Callable[..., RunRecord] = partial(timed_run, self._plain, self._task)
        with self._oracle(row.oracle or PLAIN) as run_oracle:

            def after_step(step: int) -> None:
                turns = [(plain, run_plain)]
                if step in self._like_oracle[row.name]:
                    turns.append((at_best, run_oracle))
                # They take turns, so that neither always finds the processor's caches as the plain model leaves them.
                for seconds, run in reversed(turns) if step % 2 else turns:
                    seconds[step] = sum(run(self._schedule[step : step + 2]).step_seconds)

            own = timed_run(self._patched[row.name], self._task, self._schedule, after_step=after_step)
        return Round(own, plain, at_best)

    @contextmanager
    def _oracle(self, oracle: Oracle) -> Iterator[Callable[..., RunRecord]]:
        """Yields a function that samples the oracle over the given noise levels."""
        cfg = 1.0 if oracle.branches == 1 else CFG
        with without_attentions(self._ideal.model.diffusion_model, oracle.kinds, self._nodes):
            yield partial(timed_run, self._ideal, self._task, cfg=cfg)
