"""The measurement: every row in rounds, its steps interleaved with those of the oracle and the plain model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..pack import Nodes
from .memory import with_peak
from .models import twin
from .oracles import without_attentions
from .records import Oracle, Round, Row, RunRecord
from .sampling import CFG, Task, sigmas, timed_run

WARM_UP_STEPS = 2
PLAIN = Oracle(frozenset(), branches=2)


class Measurement:
    """The rows of one model, and their oracles."""

    def __init__(self, model: ModelPatcher, task: Task, steps: int, rows: Sequence[Row], nodes: Nodes) -> None:
        """
        Args:
            model: the plain model, not sampled yet.
            task: what is sampled.
            steps: steps of each run.
            rows: the rows to run; each collects its rounds.
            nodes: the pack's nodes by id.
        """
        self._model, self._task, self._rows, self._nodes = model, task, rows, nodes
        self._schedule = sigmas(model, steps)
        # Steps of each row that are compared with its oracle.
        self._like_oracle: dict[str, list[int]] = {}
        self._ideal, own = twin(model), twin(model)
        # Other packs may modify their network for good.
        self._patched = {row.name: row.patch(twin(model) if row.is_foreign else own) for row in rows}

    def warm_up(self) -> None:
        """Untimed runs, which also measure peak memory: GPU libraries choose kernels by shape, the CPU maps memory."""
        for row in self._rows:
            arguments = self._patched[row.name], self._task, self._schedule
            record, row.peak_bytes = with_peak(self._task.device, timed_run, *arguments)
            self._like_oracle[row.name] = record.steps_like(row.oracle)
        for oracle in {row.oracle or PLAIN for row in self._rows}:
            with self._oracle(oracle) as run:
                run(self._schedule[: WARM_UP_STEPS + 1])

    def run_round(self, title: str) -> None:
        """Run every row once. The plain row too: how far its ratio is from 1 is the noise of the others."""
        for row in self._rows:
            row.rounds.append(self._run_beside(row))
            sys.stderr.write(f"{title}: {row.name}, {sum(row.rounds[-1].run.step_seconds):.2f} s\n")

    def _run_beside(self, row: Row) -> Round:
        """All in one thread: allocators and worker pools differ between threads."""
        plain: dict[int, float] = {}
        at_best: dict[int, float] = {}
        with self._oracle(row.oracle or PLAIN) as ideal:

            def run_plain(step: int) -> None:
                plain[step] = sum(timed_run(self._model, self._task, self._schedule[step : step + 2]).step_seconds)

            def run_oracle(step: int) -> None:
                if step in self._like_oracle[row.name]:
                    at_best[step] = sum(ideal(self._schedule[step : step + 2]).step_seconds)

            def after_step(step: int) -> None:
                # They take turns, so that neither always finds the processor's caches as the plain model leaves them.
                for run in (run_oracle, run_plain) if step % 2 else (run_plain, run_oracle):
                    run(step)

            own = timed_run(self._patched[row.name], self._task, self._schedule, after_step=after_step)
        return Round(own, plain, at_best)

    @contextmanager
    def _oracle(self, oracle: Oracle) -> Iterator[Callable[[Tensor], RunRecord]]:
        """Yields a function that samples the oracle over the given noise levels."""
        cfg = 1.0 if oracle.branches == 1 else CFG
        with without_attentions(self._ideal.model.diffusion_model, oracle.kinds, self._nodes):
            yield lambda schedule: timed_run(self._ideal, self._task, schedule, cfg)
