"""How many times as fast as plain each row of each part is, as a chart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from .records import Table

COLUMNS, WIDTH, BAR, HEAD = 2, 6.5, 0.24, 0.7  # the last three in inches
COLOURS = {"TGATE": "#d55e00", "plain": "#7a7a7a"}
OTHER_COLOUR = "#0072b2"


def draw(path: Path, tables: Sequence[Table]) -> None:
    """Write a picture with one panel a table."""
    lines = -(-len(tables) // COLUMNS)
    height = HEAD + BAR * max(len(table.rows) for table in tables)
    figure = Figure((WIDTH * min(COLUMNS, len(tables)), height * lines), layout="constrained")
    grid = figure.subplots(lines, min(COLUMNS, len(tables)), squeeze=False, sharex=True)
    for axes in grid.flat[len(tables) :]:
        axes.set_visible(False)
    for axes, table in zip(grid.flat, tables, strict=False):
        times = {name: 1 / spread.median for name, row in table.rows.items() if (spread := row.figures()["to_plain"])}
        colours = [COLOURS.get(name.split()[0], OTHER_COLOUR) for name in times]
        bars = axes.barh([*times], [*times.values()], color=colours)
        axes.bar_label(bars, fmt="%.2f", padding=2, fontsize=8)
        axes.invert_yaxis()
        axes.axvline(1, color="black", linewidth=0.6, zorder=0)
        axes.tick_params(labelsize=8)
        axes.set_title(table.settings["title"], fontsize=8, loc="left")
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("× as fast as plain", fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    # Room for the numbers.
    grid[0][0].set_xlim(0, 1.12 * grid[0][0].get_xlim()[1])
    figure.savefig(path, dpi=100, facecolor="white")
