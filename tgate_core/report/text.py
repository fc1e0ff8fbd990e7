"""A run in words, for people: what was saved, what it took, and why not more."""

from __future__ import annotations

from ..engine.counts import RunCounts
from ..gate.schedule import Phase
from .cost import RunCost
from .record import RunRecord

_TERA = 10**12
_GIGA = 10**9
_MEBI = 2**20
INTERRUPTED = "the run was interrupted"


def report_text(record: RunRecord, cost: RunCost | None, uncounted: str = "") -> list[str]:
    """Lines that say what a run did.

    Args:
        record: the run.
        cost: its MACs; None where they cannot be counted.
        uncounted: why they cannot.
    """
    lines = [f"Why not more: {reason}" for reason in _reasons(record)] + _saved(record)
    if not record.is_plain:
        lines.append(_cost_line(cost, uncounted))
        if peak := record.counts.peak_cache_bytes:
            lines.append(f"Captures: {peak / _MEBI:.1f} MiB at most")
    return [*lines, f"Time: {record.seconds:.1f} s"]


def headline(record: RunRecord, saved_share: float) -> str:
    """What a person wants to know first: the share of the work that was saved (0 to 1), and how long it took."""
    saved = f"{saved_share:.0%} of the work saved" if round(saved_share, 2) > 0 else "No work saved"
    return f"{saved} in {record.counts.steps} steps, {record.seconds:.1f} s"


def summary_text(record: RunRecord, plain_seconds: float | None = None) -> str:
    """One line for the log: what was saved, and why not where it was not.

    Args:
        record: the run.
        plain_seconds: how long the plain run took; None where that is not known.
    """
    counts = record.counts
    if record.is_plain:
        return plain_text(counts)
    parts = []
    predicted = _predicted(record)
    if record.has_gate or not (record.shallow_steps or predicted):
        attentions = counts.attentions_computed + counts.attentions_reused
        parts += [
            f"gate at step {record.gate_step} of {counts.steps}; "
            f"{counts.attentions_reused} of {attentions} attentions reused",
            f"guidance dropped in {counts.cond_only_passes} evaluations",
        ]
    if refreshed := _refreshed(record):
        parts.append(f"refreshed at {refreshed}")
    if predicted:
        parts.append(f"predicted: steps {predicted}")
    if record.shallow_steps:
        parts.append(f"{counts.shallow_calls} of {counts.network_calls} network calls left out the deep blocks")
    if counts.peak_cache_bytes:
        parts.append(f"cache peak {counts.peak_cache_bytes / _MEBI:.1f} MiB")
    if faster := speed_text(record, plain_seconds):
        parts.insert(0, faster)
    return "; ".join([", ".join(parts), *counts.notes])


def speed_text(record: RunRecord, plain_seconds: float | None) -> str:
    """How the run compares with the plain one before; empty where that is not known, or it did not come to its end."""
    if plain_seconds is None or record.was_interrupted or record.seconds <= 0:
        return ""
    return f"{plain_seconds / record.seconds:.1f} × as fast as the plain run before ({plain_seconds:.1f} s)"


def plain_text(counts: RunCounts) -> str:
    """The same for a run that is left as it is, which is known before its first step."""
    return ": ".join(filter(None, ("nothing is changed in this run", "; ".join(counts.notes))))


def _saved(record: RunRecord) -> list[str]:
    """What was left out."""
    counts = record.counts
    if record.is_plain:
        return [f"Steps: none of {counts.steps} gated; the run was left as it is"]
    lines = []
    if record.has_gate:
        gated = sum(
            cell.phase is Phase.FIDELITY and counts.has_saved_in(step) for step, cell in enumerate(record.cells)
        )
        attentions = counts.attentions_computed + counts.attentions_reused
        passes = counts.guided_passes + counts.cond_only_passes
        lines = [
            f"Steps: {gated or 'none'} of {counts.steps} gated, from step {record.gate_step} on",
            f"Attention: {counts.attentions_reused} of {attentions} calls reused",
        ]
        if passes:
            lines.append(f"Guidance: second pass left out {counts.cond_only_passes} of {passes} times")
    if refreshed := _refreshed(record):
        lines.append(f"Refreshed: at {refreshed}")
    if predicted := _predicted(record):
        lines.append(f"Predicted: steps {predicted}")
    if record.shallow_steps:
        shallow, calls = counts.shallow_calls, counts.network_calls
        lines.append(f"DeepCache: {shallow} of {calls} network calls left out the deep blocks")
    return lines


def _refreshed(record: RunRecord) -> str:
    """The refreshed steps, counted from 0 as the gate step is."""
    steps = [step for step, cell in enumerate(record.cells) if cell.phase is Phase.REFRESH and cell.has_run]
    return ", ".join(str(step) for step in steps)


def _predicted(record: RunRecord) -> str:
    """The predicted steps, counted from 0."""
    return ", ".join(str(step) for step, cell in enumerate(record.cells) if cell.is_predicted)


def _reasons(record: RunRecord) -> list[str]:
    return [*record.counts.notes, *([INTERRUPTED] if record.was_interrupted else [])]


def _cost_line(cost: RunCost | None, uncounted: str) -> str:
    if cost is None:
        return f"MACs: not counted ({uncounted})"
    unit, name = (_TERA, "T") if cost.plain >= _TERA else (_GIGA, "G")
    return f"MACs: {cost.plain / unit:.3f} {name} -> {cost.made / unit:.3f} {name} ({cost.saved_share:.0%} saved)"
