"""The results as a table for a terminal, and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from .figures import Figures, Spread, figures
from .records import Results, Row, Steps

NOT_MEASURED = "-"
MIB = 2**20
COLUMNS = (
    "",
    "s a run",
    "× plain",
    "processor s, × plain",
    "gated step, s",
    "× oracle",
    "processor, × oracle",
    "full steps, × plain",
    "branches",
    "cache, MiB",
    "peak, MiB",
)
LEGEND = (
    "Medians over the rounds (least–most). After each step of a row, its oracle and the plain model do the same step:\n"
    "ratios are between steps that had the same machine. The plain row is held against itself: what is not 1 there is\n"
    "noise. Processor seconds are those of all threads.\n"
    "Gated step: one that reuses all that the row is about, and the median of its ratios to the oracle's around it.\n"
    "Oracle: the same network with those attentions taken out: nothing can be faster, but for noise.\n"
    "Full steps: those that save nothing, captures included, against the same steps of the plain model, but for the\n"
    "first. Branches: evaluations of the network in a run, one a guidance branch.\n"
    "Peak: most memory that a run holds at once, beside the weights; on the CPU counted in a run that is not timed."
)


def text_table(results: Results) -> str:
    """Title, table, legend and remarks."""
    lines = [COLUMNS, *(_cells(row, figures(row)) for row in results.rows if row.runs)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = [
        "  ".join([name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))])
        for name, *cells in lines
    ]
    failures = [f"{row.name}: {row.failure}" for row in results.rows if row.failure is not None]
    return "\n".join([results.title, "", *table, "", LEGEND, *remarks(results, failures)])


def markdown_table(results: Results) -> str:
    """The medians, as a table for a page."""
    heading = (
        results.title,
        "s a run",
        "× plain",
        "gated step, × oracle",
        "full steps, × plain",
        "captures, MiB",
        "peak, MiB",
    )
    lines = [heading, ("---", *["---:"] * (len(heading) - 1))]
    for row in results.rows:
        if row.runs:
            of = figures(row)
            ratios = (of.ratio, of.to_oracle, of.full_steps)
            memory = (_mib(of.cache_bytes), _mib(of.peak_bytes))
            lines.append(
                (row.name, _median(of.seconds, "{:.1f}"), *(_median(one, "{:.3f}") for one in ratios), *memory)
            )
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def remarks(results: Results, failures: list[str]) -> list[str]:
    """What is to be said below the table, each once."""
    notes = [f"{row.name}: {note}" for row in results.rows for run in row.runs for note in run.notes]
    broken = [
        f"{row.name}: the result holds infinities or NaN"
        for row in results.rows
        if not all(r.is_finite for r in row.runs)
    ]
    return list(dict.fromkeys([*results.remarks, *failures, *notes, *broken]))


def as_json(results: Results) -> str:
    """All raw numbers and the figures."""
    rows = [
        {
            "name": row.name,
            "failure": row.failure,
            "oracle": None if row.oracle is None else row.oracle.name,
            "figures": asdict(figures(row)),
            "runs": [asdict(run) for run in row.runs],
            "plain_steps": [_seconds_by_step(steps) for steps in row.plain_steps],
            "oracle_steps": [_seconds_by_step(steps) for steps in row.oracle_steps],
        }
        for row in results.rows
    ]
    whole: dict[str, Any] = {
        "settings": results.settings,
        "remarks": results.remarks,
        "rows": rows,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _seconds_by_step(steps: Steps) -> dict[int, dict[str, float | None]]:
    """A single step's numbers; of the other fields of a run, it tells nothing that the row's own does not."""
    return {
        number: {"seconds": run.seconds, "processor_seconds": run.processor_seconds} for number, run in steps.items()
    }


def _cells(row: Row, of: Figures) -> tuple[str, ...]:
    return (
        row.name,
        _spread(of.seconds, "{:.2f}"),
        _spread(of.ratio, "{:.3f}"),
        _spread(of.processor_ratio, "{:.3f}"),
        _spread(of.gated_step, "{:.4f}"),
        _spread(of.to_oracle, "{:.3f}"),
        _spread(of.processor_to_oracle, "{:.3f}"),
        _spread(of.full_steps, "{:.3f}"),
        NOT_MEASURED if of.branches is None else f"{of.branches.median:.0f}",
        _mib(of.cache_bytes),
        _mib(of.peak_bytes),
    )


def _median(spread: Spread | None, form: str) -> str:
    return NOT_MEASURED if spread is None else form.format(spread.median)


def _spread(spread: Spread | None, form: str) -> str:
    if spread is None:
        return NOT_MEASURED
    if spread.low == spread.high:
        return form.format(spread.median)
    return f"{form.format(spread.median)} ({form.format(spread.low)}–{form.format(spread.high)})"


def _mib(number: int | None) -> str:
    return NOT_MEASURED if number is None else f"{number / MIB:.1f}"
