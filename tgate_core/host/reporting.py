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

from ..deepcache.technique import DeepCacheRun
from ..engine.counts import CallShape
from ..engine.forward import ForwardCall
from ..engine.identity import Fingerprint
from ..engine.run import Run
from ..gate.schedule import Phase
from ..gate.technique import GateRun
from ..report.record import Remembered, RunRecord, RunRecords
from ..report.text import plain_text, summary_text
from ..report.timeline import StepCell, executed_steps, full_steps
from .keys import RECORDS_KEY

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
    is_bypassed = run is None or run.is_plain
    remembered = _remembered(guider)
    if run is not None and is_bypassed and remembered.is_logged:  # nobody has to wait to hear that nothing is saved
        with harmless("the summary of this run", f"TGATE Report may still have it; {TELL_US}"):
            logger.info("TGATE: %s", plain_text(run.counts))
    try:
        yield outcome
    finally:
        if run is not None:
            seconds = time.monotonic() - (run.loaded_at or start)
            _report(guider, run, outcome, is_bypassed, seconds, remembered)


def _cells(run: Run, gate: GateRun | None, outcome: Outcome, is_bypassed: bool) -> tuple[StepCell, ...]:
    """What each step did. With all hooks off nothing was counted: all steps ran in full, if the run came to its end."""
    phases = [Phase.PLANNING] * run.tracker.steps if gate is None else gate.executed_phases
    if not is_bypassed:
        return executed_steps(phases, run.counts.by_step)
    return full_steps(phases, run.context.has_guidance) if outcome.result is not None else ()


def _remembered(guider: Any) -> Remembered:
    with harmless("asking what the editor remembers", f"The log has its line all the same; {TELL_US}"):
        records: RunRecords | None = guider.model_patcher.get_attachment(RECORDS_KEY)
        if records is not None and records.listener is not None:
            return records.listener.remembered()
    return Remembered()


def _report(guider: Any, run: Run, outcome: Outcome, is_bypassed: bool, seconds: float, remembered: Remembered) -> None:
    with harmless("the record of this run", f"TGATE Report does not know it; {TELL_US}"):
        records: RunRecords | None = guider.model_patcher.get_attachment(RECORDS_KEY)
        gate, deep = run.find(GateRun), run.find(DeepCacheRun)
        if outcome.result is not None and not is_bypassed:
            run.explain()
        record = RunRecord(
            family="" if records is None else records.family,
            counts=run.counts,
            cells=_cells(run, gate, outcome, is_bypassed),
            gate_step=run.tracker.steps if gate is None else gate.schedule.gate_step,
            shallow_steps=0 if deep is None else len(deep.shallow),
            is_plain=run.is_plain,
            seconds=seconds,
            was_interrupted=outcome.result is None,
            fingerprint=_fingerprint(outcome.result),
            call_templates=run.call_templates,
        )
        if remembered.is_logged and not is_bypassed:
            with harmless("the summary of this run", f"TGATE Report may still have it; {TELL_US}"):
                logger.info("TGATE: %s", summary_text(record, remembered.plain_seconds))
        if records is not None:
            with harmless("telling the editor of this run", f"TGATE Report has it all the same; {TELL_US}"):
                records.add(record)


def _fingerprint(result: Any) -> Fingerprint | None:
    fingerprint = None
    with harmless("recognising this run's latent", f"TGATE Report cannot tell its latent; {TELL_US}"):
        if isinstance(result, Tensor):
            fingerprint = Fingerprint.of(result)
    return fingerprint


@contextmanager
def counted(run: Run, call: ForwardCall, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[None]:
    """Around a network call: counts it once it is done.

    Args:
        run: the run that it is part of.
        call: what it reuses and captures.
        args: positional: x (conds * B, C, …), t, c_concat, c_crossattn, control, transformer_options.
        kwargs: further arguments of the network.
    """
    try:
        yield
        for reason in call.reasons:  # of a whole call: one that was interrupted proves nothing
            run.counts.note(reason)
    finally:
        x, text = args[0], args[3]
        shape = CallShape(tuple(x.shape[1:]), None if text is None else tuple(text.shape[1:]))
        if shape not in run.call_templates:
            run.call_templates[shape] = call_template(args, kwargs)
        run.counts.end_call(call, shape, x.shape[0])


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
