"""A run in words, for people: what was saved, what it took, and why not more."""

from __future__ import annotations

from .cost import RunCost
from .record import RunRecord
from .schedule import Phase

_TERA = 10**12
_GIGA = 10**9
_MEBI = 2**20
INTERRUPTED = "the run was interrupted"


def account(record: RunRecord, cost: RunCost | None, uncounted: str = "") -> list[str]:
    """Lines that say what a run did.

    Args:
        record: the run.
        cost: its MACs; None where they cannot be counted.
        uncounted: why they cannot.
    """
    statistics = record.statistics
    lines = _saved(record)
    if not record.is_plain:
        lines += [_cost_line(cost, uncounted), f"Captures: {statistics.peak_cache_bytes / _MEBI:.1f} MiB at most"]
    lines.append(f"Time: {record.seconds:.1f} s")
    return lines + [f"Why not more: {reason}" for reason in _reasons(record)]


def _saved(record: RunRecord) -> list[str]:
    """What was left out."""
    statistics = record.statistics
    if record.is_plain:
        return [f"Steps: none of {statistics.steps} gated; the run was left as it is"]
    lines = []
    if statistics.gate_step < statistics.steps:
        gated = sum(
            cell.phase is Phase.FIDELITY and statistics.has_saved_in(step) for step, cell in enumerate(record.cells)
        )
        attentions = statistics.attention_computed + statistics.attention_skipped
        passes = sum(tally.full_passes + tally.dropped_passes for tally in statistics.tallies.values())
        lines = [
            f"Steps: {gated or 'none'} of {statistics.steps} gated, from step {statistics.gate_step} on",
            f"Attention: {statistics.attention_skipped} of {attentions} calls reused",
            f"Guidance: second pass left out {statistics.branches_dropped} of {passes} times",
        ]
    if statistics.shallow_steps:
        shallow, calls = statistics.shallow_calls, statistics.model_calls
        lines.append(f"DeepCache: {shallow} of {calls} network calls left out the deep blocks")
    return lines


def _reasons(record: RunRecord) -> list[str]:
    statistics = record.statistics
    return [*statistics.notes, *([INTERRUPTED] if record.was_interrupted else [])]


def _cost_line(cost: RunCost | None, uncounted: str) -> str:
    if cost is None:
        return f"MACs: not counted ({uncounted})"
    unit, name = (_TERA, "T") if cost.plain >= _TERA else (_GIGA, "G")
    return f"MACs: {cost.plain / unit:.3f} {name} -> {cost.made / unit:.3f} {name} ({cost.saved_share:.0%} saved)"
