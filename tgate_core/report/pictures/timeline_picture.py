"""A run as a picture: one column a step, one row for each thing that was computed or saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from PIL import Image

from ...gate.schedule import Phase
from ..timeline import StepCell
from .canvas import BLUE, FAINT, GREEN, LIGHT, ORANGE, PANEL, TEXT, VIOLET, Canvas, Color, label_every

WIDTH = 1024
MARGIN = 20
LABEL_WIDTH = 180
ROW_HEIGHT = 40
GAP = 6
# Large: editors show the picture at a third of its size.
TITLE_SIZE = 32
TEXT_SIZE = 23
SWATCH = 20
COMPUTED, LEFT_OUT, PREDICTED = "computed", "left out", "predicted"
NETWORK = "network"
# Below this a number under a column would touch the next.
LEAST_COLUMN_FOR_NUMBER = 30

_PHASE_COLORS: dict[Phase, Color] = {
    Phase.PLANNING: BLUE,
    Phase.FIDELITY: ORANGE,
    Phase.REFRESH: VIOLET,
    Phase.PROTECTED: GREEN,
}
_PHASE_WORDS = {
    Phase.PLANNING: "planning",
    Phase.FIDELITY: "gated",
    Phase.REFRESH: "refreshed",
    Phase.PROTECTED: "in full",
}
# What is drawn of a thing: its name, and how much of it was computed in a step, 0 to 1.
_Row = tuple[str, Callable[[StepCell], float]]
_ROWS: tuple[_Row, ...] = (
    ("self-attention", lambda cell: 1 - cell.self_reused),
    ("cross-attention", lambda cell: 1 - cell.cross_reused),
    ("second pass", lambda cell: float(cell.is_guided)),
    ("deep blocks", lambda cell: 1 - float(cell.is_shallow)),
    (NETWORK, lambda cell: 1.0),
)
# Rows that are left away where there is nothing of them, or nothing of them is left out.
_RARE: Mapping[str, Callable[[StepCell], bool]] = {
    "second pass": lambda cell: cell.is_guided,
    "deep blocks": lambda cell: cell.is_shallow,
    NETWORK: lambda cell: cell.is_predicted,
}


def draw_timeline(cells: Sequence[StepCell], title: str, lines: Sequence[str]) -> Image.Image:
    """Draw a run.

    Args:
        cells: what each step did.
        title: headline.
        lines: what is said below the picture.
    """
    has_phases = any(cell.phase is not Phase.PLANNING for cell in cells)
    rows = _rows(cells, has_phases)
    wrapped = [part for line in lines for part in Canvas(1, 1).wrapped(line, WIDTH - 2 * MARGIN, TEXT_SIZE)]
    titles = Canvas(1, 1).wrapped(title, WIDTH - 2 * MARGIN, TITLE_SIZE)
    top = MARGIN + len(titles) * (TITLE_SIZE + 8) + SWATCH + 18
    below = top + (len(rows) + has_phases) * (ROW_HEIGHT + GAP) + 36
    canvas = Canvas(WIDTH, round(below + len(wrapped) * (TEXT_SIZE + 9) + MARGIN))
    for index, line in enumerate(titles):
        canvas.text((MARGIN, MARGIN + index * (TITLE_SIZE + 8)), line, size=TITLE_SIZE)
    if cells:
        _draw_legend(canvas, cells if has_phases else (), rows, top - SWATCH - 12)
    column = (WIDTH - 2 * MARGIN - LABEL_WIDTH) / max(1, len(cells))
    left = MARGIN + LABEL_WIDTH
    if has_phases:
        _draw_phases(canvas, cells, left, top, column)
    for index, (name, computed) in enumerate(rows, int(has_phases)):
        y = top + index * (ROW_HEIGHT + GAP)
        canvas.text((MARGIN, y + ROW_HEIGHT / 2), name, FAINT, TEXT_SIZE, "lm")
        for step, cell in enumerate(cells):
            share = computed(cell) if not cell.is_predicted else 0.0
            _draw_cell(canvas, left + step * column, y, column, share, cell.has_run)
    _draw_numbers(canvas, len(cells), left, below - 34, column)
    for index, line in enumerate(wrapped):
        canvas.text((MARGIN, below + index * (TEXT_SIZE + 9)), line, TEXT, TEXT_SIZE)
    return canvas.finished()


def _rows(cells: Sequence[StepCell], has_phases: bool) -> list[_Row]:
    """What there is to tell: where steps are but predicted, nothing of a row that says the same as the network's."""
    rows = [row for row in _ROWS if row[0] not in _RARE or any(_RARE[row[0]](cell) for cell in cells)]
    if has_phases or rows[-1][0] != NETWORK:
        return rows
    running = [cell for cell in cells if not cell.is_predicted]
    return [row for row in rows if row[0] == NETWORK or any(row[1](cell) < 1 for cell in running)]


def _draw_legend(canvas: Canvas, cells: Sequence[StepCell], rows: Sequence[_Row], y: float) -> None:
    """All colours that occur, with what they mean; `cells` are those whose phases are drawn."""
    phases = {cell.phase for cell in cells}
    entries = [(_PHASE_COLORS[phase], word) for phase, word in _PHASE_WORDS.items() if phase in phases]
    x = float(MARGIN)
    for color, word in [*entries, (LIGHT, COMPUTED), (PANEL, PREDICTED if len(rows) == 1 else LEFT_OUT)]:
        canvas.rectangle((x, y, x + SWATCH, y + SWATCH), color, outline=FAINT)
        canvas.text((x + SWATCH + 8, y + SWATCH / 2), word, FAINT, TEXT_SIZE - 3, "lm")
        x += SWATCH + 32 + canvas.text_width(word, TEXT_SIZE - 3)


def _draw_phases(canvas: Canvas, cells: Sequence[StepCell], left: float, top: float, column: float) -> None:
    canvas.text((MARGIN, top + ROW_HEIGHT / 2), "phase", FAINT, TEXT_SIZE, "lm")
    start = 0
    for step in range(1, len(cells) + 1):
        if step < len(cells) and cells[step].phase is cells[start].phase:
            continue
        phase = cells[start].phase
        box = (left + start * column, top, left + step * column - 2, top + ROW_HEIGHT)
        canvas.rectangle(box, _PHASE_COLORS[phase])
        word = _PHASE_WORDS[phase]
        if canvas.text_width(word, TEXT_SIZE) < box[2] - box[0] - 8:
            canvas.text(((box[0] + box[2]) / 2, top + ROW_HEIGHT / 2), word, (0, 0, 0), TEXT_SIZE, "mm")
        start = step


def _draw_cell(canvas: Canvas, x: float, y: float, column: float, computed: float, has_run: bool) -> None:
    """A column as high as the share that was computed; nothing in a step that the sampler never came to."""
    if not has_run:
        return
    canvas.rectangle((x, y, x + column - 2, y + ROW_HEIGHT), PANEL)
    if computed > 0:
        canvas.rectangle((x, y + ROW_HEIGHT * (1 - computed), x + column - 2, y + ROW_HEIGHT), LIGHT)


def _draw_numbers(canvas: Canvas, steps: int, left: float, y: float, column: float) -> None:
    canvas.text((MARGIN, y), "step", FAINT, TEXT_SIZE - 3)
    for step in range(0, steps, label_every(LEAST_COLUMN_FOR_NUMBER / column)):
        canvas.text((left + (step + 0.5) * column - 1, y), str(step), FAINT, TEXT_SIZE - 3, "ma")
