"""The measurement itself: each row in turns with what it is held against, and all of them round by round."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from comfy.model_patcher import ModelPatcher

from ...progress import say
from .memory import PeakBytes
from .models import twin
from .oracles import Core, without_attentions
from .records import Oracle, Results, Row, RunRecord
from .sampling import Task, timed_run
from .turns import Between, in_turns

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
        self._steps = int(results.settings["steps"])
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
                row.peak_bytes = self._warm_up_run(self._patched[row.name])
        for oracle in {row.oracle for row in self._results.rows if row.oracle is not None}:
            with self._oracle(oracle) as run:
                run(WARM_UP_STEPS)

    def _warm_up_run(self, model: ModelPatcher) -> int | None:
        if self._task.device.type == "cuda":
            return timed_run(model, self._task, self._steps).peak_bytes
        counted = PeakBytes()
        with counted:
            timed_run(model, self._task, self._steps)
        return counted.peak

    def run_round(self, title: str) -> None:
        """Run everything once: each row step by step in turns with the plain model and with its oracle."""
        plain, *others = self._results.rows
        plain.runs.append(timed_run(self._model, self._task, self._steps))
        for row in others:
            if row.failure is None:
                with _given_up_on_failure(row):
                    self._run_beside(row)
                    say(f"{title}: {row.name}, {row.runs[-1].seconds:.2f} s")

    def _run_beside(self, row: Row) -> None:
        def run(model: ModelPatcher) -> Callable[[Between], RunRecord]:
            return lambda between: timed_run(model, self._task, self._steps, between=between)

        runs = [run(self._model), run(self._patched[row.name])]
        if row.oracle is None:
            plain, ours = in_turns(runs)
        else:
            with self._oracle(row.oracle) as ideal:
                plain, ours, at_best = in_turns([*runs, partial(ideal, self._steps)])
            row.oracle_runs.append(at_best)
        row.plain_runs.append(plain)
        row.runs.append(ours)

    def _alive(self) -> list[Row]:
        return [row for row in self._results.rows if row.failure is None]

    @contextmanager
    def _oracle(self, oracle: Oracle) -> Iterator[Callable[..., RunRecord]]:
        """Within it, what is given runs the oracle for so many steps, with what is to be called between them."""
        cfg = 1.0 if oracle.branches == 1 else self._task.cfg
        with without_attentions(self._ideal.model.diffusion_model, oracle.kinds, self._core):
            yield lambda steps, between=None: timed_run(self._ideal, self._task, steps, cfg, between)


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
