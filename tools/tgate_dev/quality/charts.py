"""Charts of cost against distance and against prompts right, a panel for each setting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator, NullLocator

from . import figures
from .figures import Interval
from .methods import PLAIN
from .records import Record, Setting

PANEL, LEGEND, HEAD = (3.7, 3.2), 2.9, 0.4  # inches
COLOURS = (
    *("#7a7a7a", "#0072b2", "#56b4e9", "#d55e00", "#e69f00", "#5d3a9b", "#cc79a7", "#009e73"),
    *("#b22222", "#6b8e23", "#000080", "#8b4513", "#ff1493", "#00ced1", "#bdb76b", "#2f4f4f"),
)
MARKERS = "Xos^DvPhp<d>H8DX"
FRONT = "Pareto front"
TICKS = (0, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1)  # of distance


class Measure(NamedTuple):
    """What a chart shows over the cost; `sign` is 1 where less is better, else -1."""

    name: str
    label: str
    of: Callable[[Record], Interval]
    sign: int


DISTANCE = Measure("distance", "distance to plain (RMS of the latent)", lambda one: figures.mean(one.distance), 1)
RIGHT = Measure("right", "share of prompts right", lambda one: figures.share(one.right), -1)


def draw(folder: Path, by_setting: dict[Setting, dict[str, Record]], series: dict[str, str]) -> None:
    """Write one network's charts.

    Args:
        folder: for the files.
        by_setting: records of one network.
        series: the line that each method belongs to; their order gives the colours.
    """
    network = next(iter(by_setting)).network
    is_judged = all(one.right for records in by_setting.values() for one in records.values())
    for measure in (DISTANCE, RIGHT) if is_judged else (DISTANCE,):
        figure = _figure(by_setting, series, measure)
        figure.savefig(folder / f"{network}-{measure.name}.png", dpi=100, facecolor="white")


def _figure(by_setting: dict[Setting, dict[str, Record]], series: dict[str, str], measure: Measure) -> Figure:
    columns = list(dict.fromkeys(setting.sampler for setting in by_setting))
    rows = sorted({(setting.steps, setting.cfg) for setting in by_setting})
    size = PANEL[0] * len(columns) + LEGEND, PANEL[1] * len(rows) + HEAD
    figure = Figure(size, layout="constrained")
    grid = figure.subplots(len(rows), len(columns), squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat:
        axes.set_visible(False)
    for setting, records in by_setting.items():
        axes = grid[rows.index((setting.steps, setting.cfg))][columns.index(setting.sampler)]
        axes.set_visible(True)
        axes.set_title(f"{setting.sampler}, {setting.steps} steps, cfg {setting.cfg:g}", fontsize=11)
        _panel(axes, [*records.values()], series, measure)
    for axes in grid[:, 0]:
        axes.set_ylabel(measure.label)
    known = {text: mark for axes in grid.flat for mark, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    lines = [line for line in dict.fromkeys([*series.values(), *known]) if line in known]
    figure.legend([known[line] for line in lines], lines, loc="outside right upper", frameon=False, fontsize=9)
    return figure


def _panel(axes: Axes, records: list[Record], series: dict[str, str], measure: Measure) -> None:
    by_line: dict[str, list[Record]] = {}
    for record in records:
        by_line.setdefault(series.get(record.place.method, record.place.method), []).append(record)
    front = _front(sorted(records, key=lambda one: (one.cost, measure.sign * measure.of(one).value)), measure)
    axes.step([x for x, _ in front], [y for _, y in front], where="post", color="#c8c8c8", linewidth=4, label=FRONT)
    for line, some in by_line.items():
        style, costs = _style(line, series), [one.cost for one in some]
        values, lows, highs = zip(*map(measure.of, some), strict=True)
        axes.vlines(costs, lows, highs, colors=style["color"], linewidth=0.9, alpha=0.4)
        axes.plot(costs, values, **style, linewidth=1, markeredgecolor="white", markeredgewidth=0.7, label=line)
        if measure is DISTANCE:
            _name_ends(axes, line, some, style["color"])
    axes.set(xlabel="cost: MACs, × plain")
    if measure is DISTANCE:
        # Logarithmic, but with plain's 0: what fails may be thirty times as far as what is near.
        axes.set_yscale("symlog", linthresh=TICKS[1], linscale=0.4)
        axes.set_yticks(TICKS, [f"{tick:g}" for tick in TICKS])
        axes.yaxis.set_minor_locator(NullLocator())
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(MultipleLocator(0.2))
    axes.grid(color="#e8e8e8", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    # Also where there is another panel below: the grid may have gaps.
    axes.tick_params(labelbottom=True)


def _name_ends(axes: Axes, line: str, records: list[Record], colour: str) -> None:
    """Write the thresholds of a line's ends beside them."""
    for one, side, shift in ((records[0], "left", 5), (records[-1], "right", -7)):
        look: dict[str, Any] = {"ha": side, "fontsize": 8, "color": colour, "textcoords": "offset points"}
        place = one.cost, DISTANCE.of(one).value
        axes.annotate(one.place.method.removeprefix(line).strip(), place, (shift, 4), **look)


def _front(records: list[Record], measure: Measure) -> list[tuple[float, float]]:
    """Cost and value of what nothing cheaper is as good as; `records` are in the order of their cost."""
    front: list[tuple[float, float]] = []
    for record in records:
        value = measure.of(record).value
        if not front or measure.sign * value < measure.sign * front[-1][1]:
            front.append((record.cost, value))
    return front


def _style(line: str, series: dict[str, str]) -> dict[str, Any]:
    """Points get smaller from line to line, so that those in one place can all be seen."""
    if line == PLAIN:
        return {"color": "black", "marker": "o", "markersize": 7}
    lines = [name for name in dict.fromkeys([*series.values(), line]) if name != PLAIN]
    place = lines.index(line)
    kind = {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}
    return {**kind, "markersize": max(6.5, 10 - 0.5 * place)}
