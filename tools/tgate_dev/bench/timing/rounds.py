"""The measurement itself: everything in turns, round by round, so that all rows meet the machine in the same moods."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from comfy.model_patcher import ModelPatcher

from ...progress import say
from .memory import PeakBytes
from .oracles import Core, without_attentions
from .records import Oracle, Results, Row, RunRecord
from .sampling import Task, timed_run

# One more than are looked at: the first holds the host's preparations.
ORACLE_STEPS = 5
WARM_UP_STEPS = 2


class Measurement:
    """The rows of one model, and their oracles."""

    def __init__(
        self, build: Callable[[], ModelPatcher], model: ModelPatcher, task: Task, results: Results, core: Core
    ) -> None:
        """
        Args:
            build: makes the same model once more: other packs may change theirs for good.
            model: the plain model.
            task: what is sampled.
            results: its rows are run, and their records put there.
            core: gets a module of the pack's core.
        """
        self._model, self._task, self._results, self._core = model, task, results, core
        self._steps = int(results.settings["steps"])
        self._patched: dict[str, ModelPatcher] = {}
        for row in results.rows:
            with _given_up_on_failure(row):
                self._patched[row.name] = row.patch(build() if row.is_foreign else model)

    def warm_up(self) -> None:
        """Run without keeping the times, until nothing is done for the first time any more.

        The libraries of a graphics card choose their kernels by shape, and on the CPU memory has to be fetched. What a
        run holds on the CPU is counted meanwhile, as that would slow a run that is timed.
        """
        for row in self._alive():
            with _given_up_on_failure(row):
                row.peak_bytes = self._warm_up_run(self._patched[row.name])
        for oracle in {row.oracle for row in self._results.rows if row.oracle is not None}:
            self._run_oracle(oracle, WARM_UP_STEPS)

    def _warm_up_run(self, model: ModelPatcher) -> int | None:
        if self._task.device.type == "cuda":
            timed_run(model, self._task, self._steps)
            return None
        counted = PeakBytes()
        with counted:
            timed_run(model, self._task, self._steps)
        return counted.peak

    def run_round(self, title: str) -> None:
        """Run everything once, each row's oracle right after it."""
        for row in self._alive():
            with _given_up_on_failure(row):
                row.runs.append(timed_run(self._patched[row.name], self._task, self._steps))
                say(f"{title}: {row.name}, {row.runs[-1].seconds:.2f} s")
            if row.oracle is not None and row.failure is None:
                row.oracle_runs.append(self._run_oracle(row.oracle, ORACLE_STEPS))

    def _alive(self) -> list[Row]:
        return [row for row in self._results.rows if row.failure is None]

    def _run_oracle(self, oracle: Oracle, steps: int) -> RunRecord:
        cfg = 1.0 if oracle.branches == 1 else self._task.cfg
        with without_attentions(self._model.model.diffusion_model, oracle.kinds, self._core):
            return timed_run(self._model, self._task, steps, cfg)


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
