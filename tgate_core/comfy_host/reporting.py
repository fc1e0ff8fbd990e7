"""Keeping what a run did for those who ask later: counts of each network call, and a record at the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..model_pass import ModelPass
from ..network_call import NetworkCall
from ..record import Fingerprint, RunRecord, RunRecords, closing_reasons, happened_cells
from ..run import Run
from ..tally import CallShape
from ..timeline import StepCell, planned_cells
from .keys import PASS_KEY, RECORDS_KEY

logger = logging.getLogger(__name__)

# Beyond these a template holds things that cannot be told apart from state: such a call is not counted later.
_PLAIN_VALUES = (bool, int, float, str, type(None), torch.dtype)


@dataclass
class Outcome:
    """What comes of a run; `result` is the latent, None until it is there."""

    result: Any = None


@contextmanager
def reported(guider: Any, run: Run | None) -> Iterator[Outcome]:
    """Around a sampling run: one line in the log, and a record for the nodes, however it ends.

    Args:
        guider: the host's guider, whose model holds the records.
        run: its state.
    """
    outcome, start = Outcome(), time.monotonic()
    is_bypassed = run is None or run.is_plain
    try:
        yield outcome
    finally:
        if run is not None:
            cells = _untouched_cells(run, outcome) if is_bypassed else _cells(run, outcome)
            _report(guider, run, outcome, cells, time.monotonic() - start)


def _untouched_cells(run: Run, outcome: Outcome) -> tuple[StepCell, ...]:
    """Of a run that nothing of ours was on: all its steps in full; of one that ended early, nobody counted them."""
    is_whole = outcome.result is not None
    return planned_cells(run.config, run.schedule, run.statistics.is_guided) if is_whole else ()


def _cells(run: Run, outcome: Outcome) -> tuple[StepCell, ...]:
    cells = happened_cells(run.schedule, run.statistics.tallies)
    if outcome.result is not None:
        for reason in closing_reasons(cells, run.schedule, run.statistics, run.cache.has_refused):
            run.statistics.note(reason)
    return cells


def _report(guider: Any, run: Run, outcome: Outcome, cells: tuple[StepCell, ...], seconds: float) -> None:
    records: RunRecords | None = guider.model_patcher.get_attachment(RECORDS_KEY)
    result = outcome.result
    record = RunRecord(
        family="" if records is None else records.family,
        statistics=run.statistics,
        cells=cells,
        is_plain=run.is_plain,
        seconds=seconds,
        was_interrupted=result is None,
        fingerprint=Fingerprint.of(result) if isinstance(result, Tensor) else None,
        call_templates=run.call_templates,
    )
    logger.info("TGATE: %s", record.summary())
    if records is not None:
        records.add(record)


@contextmanager
def counted(run: Run, call: NetworkCall | None, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[None]:
    """Around a network call: counts it once it is done.

    Args:
        run: the run that it is part of.
        call: what it hands out and captures.
        args: positional: x (conds * B, C, …), t, c_concat, c_crossattn, control, transformer_options.
        kwargs: further arguments of the network.
    """
    try:
        yield
        if call is not None:  # whole: one that was interrupted proves nothing
            for reason in call.reasons:
                run.statistics.note(reason)
    finally:
        x, text, options = args[0], args[3], args[5]
        shape = CallShape(tuple(x.shape[1:]), None if text is None else tuple(text.shape[1:]))
        if shape not in run.call_templates:
            run.call_templates[shape] = call_template(args, kwargs)
        model_pass: ModelPass | None = options.get(PASS_KEY)
        run.statistics.model_calls += 1
        run.statistics.note_call(call, shape, x.shape[0], 1.0 if model_pass is None else model_pass.plan.plain_share)
        if model_pass is not None:
            run.statistics.tallies[model_pass.plan.step].note_call(call)


def call_template(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """The arguments of a network call without their values: (x, t, c_concat, c_crossattn, keywords).

    None where one of them is something else than tensors and plain values.
    """
    try:
        return _without_values((*args[:4], dict(kwargs)))
    except TypeError:
        return None


def _without_values(value: Any) -> Any:
    if isinstance(value, Tensor):
        return torch.empty_like(value, device="meta")
    if isinstance(value, dict):
        return {name: _without_values(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_without_values(item) for item in value)
    if isinstance(value, _PLAIN_VALUES):
        return value
    raise TypeError(f"a network argument of type {type(value).__name__}")
