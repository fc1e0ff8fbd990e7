"""Keeping what a run did for those who ask later: counts of each network call, and a record at the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from comfy.model_management import InterruptProcessingException
from torch import Tensor

from ..model_pass import ModelPass
from ..network_call import NetworkCall
from ..record import Fingerprint, RunRecord, RunRecords, happened_cells
from ..run import Run
from ..tally import CallShape
from .keys import PASS_KEY, RECORDS_KEY

logger = logging.getLogger(__name__)

# What to do about a failure of ours.
TELL_US = "please report it with what the log says."
# Beyond these a template holds things that cannot be told apart from state: such a call is not counted later.
_PLAIN_VALUES = (bool, int, float, str, type(None), torch.dtype)


@contextmanager
def harmless(what: str, remedy: str) -> Iterator[None]:
    """Around what only looks at a run: if it fails, the log says so, and the run goes on or stays as it ended.

    Args:
        what: it is, for the log.
        remedy: what the user can do about it, a sentence.
    """
    try:
        yield
    except InterruptProcessingException:  # an Exception, in hosts before 0.20
        raise
    except Exception as error:
        text = "TGATE: %s failed (%s: %s); the picture is as it would be without that. %s"
        logger.warning(text, what, type(error).__name__, error, remedy, exc_info=True)


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
    try:
        yield outcome
    finally:
        if run is not None:
            _report(guider, run, outcome, time.monotonic() - start)


def _report(guider: Any, run: Run, outcome: Outcome, seconds: float) -> None:
    with harmless("the record of this run", f"TGATE Report does not know it; {TELL_US}"):
        records: RunRecords | None = guider.model_patcher.get_attachment(RECORDS_KEY)
        record = RunRecord(
            family="" if records is None else records.family,
            statistics=run.statistics,
            cells=happened_cells(run.schedule, run.statistics.tallies),
            is_plain=run.is_plain,
            seconds=seconds,
            was_interrupted=outcome.result is None,
            fingerprint=_fingerprint(outcome.result),
            call_templates=run.call_templates,
        )
        with harmless("the summary of this run", f"TGATE Report may still have it; {TELL_US}"):
            logger.info("TGATE: %s", record.summary())
        if records is not None:
            with harmless("telling the editor of this run", f"TGATE Report has it all the same; {TELL_US}"):
                records.add(record)


def _fingerprint(result: Any) -> Fingerprint | None:
    with harmless("recognising this run's latent", f"TGATE Report takes the run for an older one; {TELL_US}"):
        return Fingerprint.of(result) if isinstance(result, Tensor) else None
    return None


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

    None where one of them is something else than tensors and plain values, or a tensor that cannot do without.
    """
    try:
        return _without_values((*args[:4], dict(kwargs)))
    except Exception:  # whatever tensors and sequences of other packs say to this: the call's cost is not counted
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
