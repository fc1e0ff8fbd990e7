"""The ratios as a chart."""

from __future__ import annotations

from pathlib import Path

from .figures import Spread, figures
from .records import Results, Row

PLAIN, OWN, OTHER = "#8a8f98", "#2f6fb0", "#c98a2b"
MEANING = {OWN: "T-GATE", OTHER: "other nodes"}
SPREAD_COLOR = "#202020"
WIDTH_INCHES = 11.0
INCHES_A_ROW = 0.42
INCHES_AROUND = 1.7
DOTS_AN_INCH = 120
LABEL_GAP = 0.015
# Behind the labels, so that no line of the grid runs through them.
PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
# Room for the labels behind the longest bar.
ROOM_FOR_LABELS = 1.3


def save_chart(results: Results, path: Path) -> None:
    """Draw the ratio of each row to the plain one, with its spread over the rounds; rows in the table's order."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    measured = [(row, ratio) for row in results.rows if (ratio := figures(row).ratio) is not None]
    sheet = Figure(figsize=(WIDTH_INCHES, INCHES_AROUND + INCHES_A_ROW * len(measured)), layout="constrained")
    FigureCanvasAgg(sheet)
    axes = sheet.subplots()
    axes.axvline(1.0, color=PLAIN, linewidth=1, linestyle="--", zorder=0)
    for place, (row, ratio) in enumerate(measured):
        axes.barh(place, ratio.median, height=0.62, color=_color(row, place))
        axes.hlines(place, ratio.low, ratio.high, color=SPREAD_COLOR, linewidth=2)
        axes.text(max(ratio.high, ratio.median) + LABEL_GAP, place, label(ratio), va="center", fontsize=10, bbox=PAPER)
    axes.set_yticks(range(len(measured)), [row.name for row, _ in measured], fontsize=10)
    axes.invert_yaxis()
    axes.set_xlim(0, ROOM_FOR_LABELS * max(1.0, *(ratio.high for _, ratio in measured)))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#e4e6ea", zorder=-1)
    axes.set_axisbelow(True)
    axes.set_xlabel(f"seconds of a run, × plain: {_said(max(len(row.runs) for row, _ in measured))}; less is faster")
    axes.legend(handles=[Patch(color=color, label=text) for color, text in MEANING.items()], loc="lower right")
    sheet.suptitle(results.title, fontsize=12)
    sheet.savefig(path, dpi=DOTS_AN_INCH)


def label(ratio: Spread) -> str:
    """What stands beside a bar."""
    if ratio.low == ratio.high:
        return f"{ratio.median:.2f}"
    return f"{ratio.median:.2f}  ({ratio.low:.2f}–{ratio.high:.2f})"


def _said(rounds: int) -> str:
    return "one round" if rounds == 1 else f"median of {rounds} rounds, line from least to most"


def _color(row: Row, place: int) -> str:
    if place == 0:
        return PLAIN
    return OWN if row.name.startswith(("TGATE", "Advanced")) else OTHER
