"""The measurement itself: each row with what it is held against in between its steps, all of them round by round."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...progress import say
from .memory import PeakBytes
from .models import twin
from .oracles import Core, without_attentions
from .records import Oracle, Results, Row, RunRecord, Steps
from .sampling import Task, sigmas, timed_run

WARM_UP_STEPS = 2


class Measurement:
    """The rows of one model, and their oracles."""

    def __init__(self, model: ModelPatcher, task: Task, results: Results, core: Core) -> None:
        """
        Args:
            model: the plain model, not loaded yet.
            task: what is sampled.
            results: its rows are run, and their records put there.
            core: gets a module of the pack's core.
        """
        self._model, self._task, self._results, self._core = model, task, results, core
        self._schedule = sigmas(model, int(results.settings["steps"]))
        # By row: its steps that are held against the oracle.
        self._like_oracle: dict[str, list[int]] = {}
        self._ideal, own = twin(model), twin(model)
        self._patched: dict[str, ModelPatcher] = {}
        for row in results.rows:
            with _given_up_on_failure(row):
                # Other packs may change theirs for good.
                self._patched[row.name] = row.patch(twin(model) if row.is_foreign else own)

    def warm_up(self) -> None:
        """Run without keeping the times, until nothing is done for the first time any more.

        The libraries of a graphics card choose their kernels by shape, and on the CPU memory has to be fetched. What a
        run holds on the CPU is counted meanwhile, as that would slow a run that is timed.
        """
        for row in self._alive():
            with _given_up_on_failure(row):
                record, row.peak_bytes = self._warm_up_run(self._patched[row.name])
                self._like_oracle[row.name] = [] if row.oracle is None else record.steps_like(row.oracle)
        for oracle in {row.oracle for row in self._results.rows if row.oracle is not None}:
            with self._oracle(oracle) as run:
                run(self._schedule[: WARM_UP_STEPS + 1])

    def _warm_up_run(self, model: ModelPatcher) -> tuple[RunRecord, int | None]:
        """A run, and the most bytes that it held."""
        if self._task.device.type == "cuda":
            record = timed_run(model, self._task, self._schedule)
            return record, record.peak_bytes
        counted = PeakBytes()
        with counted:
            record = timed_run(model, self._task, self._schedule)
        return record, counted.peak

    def run_round(self, title: str) -> None:
        """Run every row once, with its oracle and the plain model in between its steps.

        The plain row too: how far its ratio is from 1 says what the others' are worth.
        """
        for row in self._alive():
            with _given_up_on_failure(row):
                self._run_beside(row)
                say(f"{title}: {row.name}, {row.runs[-1].seconds:.2f} s")

    def _run_beside(self, row: Row) -> None:
        """In one thread: each has an allocator and a pool of workers of its own, and these differ."""
        plain: Steps = {}
        at_best: Steps = {}
        with self._oracle(row.oracle) as ideal:

            def run_plain(step: int) -> None:
                plain[step] = timed_run(self._model, self._task, self._schedule[step : step + 2])

            def run_oracle(step: int) -> None:
                if step in self._like_oracle[row.name]:
                    at_best[step] = ideal(self._schedule[step : step + 2])

            def after_step(step: int) -> None:
                # Otherwise one of them would always find the processor's caches as the plain model leaves them.
                order = (run_oracle, run_plain) if step % 2 else (run_plain, run_oracle)
                for run in order:
                    run(step)

            row.runs.append(timed_run(self._patched[row.name], self._task, self._schedule, after_step=after_step))
        row.plain_steps.append(plain)
        row.oracle_steps.append(at_best)

    def _alive(self) -> list[Row]:
        return [row for row in self._results.rows if row.failure is None]

    @contextmanager
    def _oracle(self, oracle: Oracle | None) -> Iterator[Callable[[Tensor], RunRecord]]:
        """Within it, what is given samples the oracle over such noise levels."""
        kinds, branches = (oracle.kinds, oracle.branches) if oracle is not None else (frozenset[str](), 2)
        cfg = 1.0 if branches == 1 else self._task.cfg
        with without_attentions(self._ideal.model.diffusion_model, kinds, self._core):
            yield lambda schedule: timed_run(self._ideal, self._task, schedule, cfg)


@contextmanager
def _given_up_on_failure(row: Row) -> Iterator[None]:
    """What another pack's node raises is that row's end, and so is a model that one of our nodes does not take.

    Anything else that goes wrong with our own rows is a fault, and ends the measurement.
    """
    try:
        yield
    except Exception as error:
        if not (row.is_foreign or isinstance(error, ValueError)):
            raise
        traceback.print_exc()
        row.failure = f"given up, {type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason'}"
