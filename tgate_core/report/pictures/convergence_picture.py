"""How attention settled in a measured run, as a picture: a line for each block, their mean, and the gate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import Image

from ...engine.actions import SELF_ATTENTION, AttentionKind
from ...probe.profile import PERCENT, ConvergenceProfile
from .canvas import BLUE, FAINT, GREEN, GRID, LIGHT, ORANGE, PANEL, Box, Canvas, Color, Point, label_every

WIDTH, HEIGHT = 1024, 940
LEFT, RIGHT, TOP = 92, 24, 124
PANEL_HEIGHT, COSINE_HEIGHT, BETWEEN = 264, 110, 62
MOST_PANELS = 2
TITLE_SIZE, TEXT_SIZE = 32, 24
LEGEND = "thin: one block   thick: their mean   dashed: tolerance"
MOST_LABELS = 26
# Tops of the scale. Above the last nothing is settled, and what lies below would be squeezed.
ROUND_PERCENT = (4.0, 8.0, 20.0, 40.0, 60.0, 80.0, 100.0, 200.0)
# What the cosine's scale spans, down from 1.
ROUND_SPANS = (0.002, 0.01, 0.02, 0.1, 0.2, 1.0, 2.0)
THIN, THICK = 1.5, 3.5


@dataclass(frozen=True)
class _Axes:
    """Where values lie on the canvas."""

    box: Box
    steps: int
    low: float
    high: float

    def place(self, step: float, value: float) -> Point:
        """The point of a value at a step; beyond the range it lies on the edge."""
        left, top, right, bottom = self.box
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return left + (right - left) * step / max(1, self.steps - 1), bottom - (bottom - top) * share


def draw_convergence(profile: ConvergenceProfile, tolerance: float, gate_step: int) -> Image.Image:
    """Draw a measurement.

    Args:
        profile: what was measured.
        tolerance: most change a step that counts as settled, percent.
        gate_step: the gate that follows.
    """
    panels = _panels(profile)
    canvas = Canvas(WIDTH, HEIGHT - (MOST_PANELS - len(panels)) * (PANEL_HEIGHT + BETWEEN))
    is_settled = gate_step < profile.steps
    gate = f"gate at step {gate_step} of {profile.steps}" if is_settled else f"{profile.gated_name} does not settle"
    canvas.text((LEFT, 12), f"{gate}, tolerance {tolerance:g} %", size=TITLE_SIZE)
    legend = f"{LEGEND}   upright: gate" if is_settled else LEGEND
    canvas.text((LEFT, 30 + TITLE_SIZE), legend, FAINT, TEXT_SIZE - 3)
    top = float(TOP)
    for kind, name, color in panels:
        axes = _axes(top, PANEL_HEIGHT, profile.steps, 0.0, _most(profile.changes[kind].values()))
        _frame(canvas, axes, f"{name}: change from the step before, %")
        for values in profile.changes[kind].values():
            _curve(canvas, axes, [value * PERCENT for value in values], _faded(color), THIN)
        _curve(canvas, axes, [value * PERCENT for value in profile.mean(kind)], color, THICK)
        if kind == profile.gated_kind:
            canvas.dashed(axes.place(0, tolerance), axes.place(profile.steps - 1, tolerance), LIGHT)
        if is_settled:
            canvas.line([axes.place(gate_step, 0.0), axes.place(gate_step, axes.high)], GREEN, 3)
        top += PANEL_HEIGHT + BETWEEN
    axes = _axes(top, COSINE_HEIGHT, profile.steps, _least(profile.cosines), 1.0)
    _frame(canvas, axes, "cosine between cond and uncond", ticks=2)
    _curve(canvas, axes, profile.cosines, LIGHT, 3.0)
    _numbers(canvas, axes)
    return canvas.finished()


def _panels(profile: ConvergenceProfile) -> list[tuple[AttentionKind, str, Color]]:
    """The kinds of attention that are drawn, the one that the gate follows from first."""
    first = (profile.gated_kind, profile.gated_name, ORANGE)
    return [first] if profile.gated_kind == SELF_ATTENTION else [first, (SELF_ATTENTION, "self-attention", BLUE)]


def _axes(top: float, height: float, steps: int, low: float, high: float) -> _Axes:
    return _Axes((LEFT, top, WIDTH - RIGHT, top + height), steps, low, high)


def _most(rows: Iterable[Sequence[float]]) -> float:
    """Top of the scale: the largest change, within reason, up to a round number."""
    largest = max((value * PERCENT for row in rows for value in row if math.isfinite(value)), default=0.0)
    return next((top for top in ROUND_PERCENT if top >= largest), ROUND_PERCENT[-1])


def _least(cosines: Iterable[float]) -> float:
    """Bottom of the scale: the lowest cosine, down to a round number."""
    lowest = min((value for value in cosines if math.isfinite(value)), default=0.0)
    return 1.0 - next((span for span in ROUND_SPANS if 1.0 - lowest <= span), ROUND_SPANS[-1])


def _frame(canvas: Canvas, axes: _Axes, title: str, ticks: int = 4) -> None:
    left, top, right, _ = axes.box
    canvas.rectangle(axes.box, PANEL)
    canvas.text((left, top - 16), title, FAINT, TEXT_SIZE, "lm")
    for index in range(ticks + 1):
        value = axes.low + (axes.high - axes.low) * index / ticks
        _, y = axes.place(0, value)
        canvas.line([(left, y), (right, y)], GRID)
        canvas.text((left - 10, y), f"{value:.3g}", FAINT, TEXT_SIZE - 3, "rm")


def _numbers(canvas: Canvas, axes: _Axes) -> None:
    for step in range(0, axes.steps, label_every(axes.steps / MOST_LABELS)):
        x, y = axes.place(step, axes.low)
        canvas.text((x, y + 8), str(step), FAINT, TEXT_SIZE - 3, "ma")
    canvas.text((LEFT - 24, axes.box[3] + 8), "step", FAINT, TEXT_SIZE - 3, "ra")


def _curve(canvas: Canvas, axes: _Axes, values: Sequence[float], color: Color, width: float) -> None:
    """A line through what is a number; it breaks where nothing was measured."""
    stretch: list[Point] = []
    for step, value in enumerate([*values, math.nan]):
        if math.isfinite(value):
            stretch.append(axes.place(step, value))
            continue
        if len(stretch) > 1:
            canvas.line(stretch, color, width)
        stretch = []


def _faded(color: Color) -> Color:
    red, green, blue = ((2 * part + ground) // 3 for part, ground in zip(color, PANEL, strict=True))
    return red, green, blue
