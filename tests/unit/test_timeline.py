"""The cells that people see: one a step, as the schedule has it."""

from __future__ import annotations

from tgate_core.gate.config import GateConfig
from tgate_core.gate.schedule import Phase, build_schedule
from tgate_core.report.pictures.canvas import BLUE
from tgate_core.report.pictures.timeline_picture import GAP, ROW_HEIGHT, draw_timeline
from tgate_core.report.timeline import StepCell, as_groups, planned_cells


def cells(config: GateConfig, steps: int, gate_step: int, is_guided: bool = True) -> list[dict[str, object]]:
    schedule = build_schedule(config, steps, gate_step)
    return [cell.as_json() for cell in planned_cells(config, schedule, is_guided, shallow={1})]


def column(rows: list[dict[str, object]], name: str) -> list[object]:
    return [row[name] for row in rows]


def test_cells_follow_the_schedule() -> None:
    rows = cells(GateConfig(sp_interval=2, warm_up=0, protect_last=1), steps=8, gate_step=5)
    assert column(rows, "phase") == ["planning"] * 5 + ["fidelity"] * 2 + ["protected"]
    assert column(rows, "self_reused") == [0, 1, 0, 1, 0, 0, 0, 0]
    assert column(rows, "cross_reused") == [0, 0, 0, 0, 0, 1, 1, 0]
    assert column(rows, "guided") == [True] * 5 + [False] * 2 + [True]
    assert column(rows, "shallow") == [False, True] + [False] * 6


def test_equal_steps_in_a_row_are_told_once() -> None:
    planning = StepCell(Phase.PLANNING, 0.0, 0.0, is_guided=True)
    reused = StepCell(Phase.PLANNING, 1.0, 0.0, is_guided=True)
    groups = as_groups([planning, planning, reused, planning])
    assert groups == [
        {**planning.as_json(), "count": 2},
        {**reused.as_json(), "count": 1},
        {**planning.as_json(), "count": 1},
    ]
    assert as_groups([]) == []


def test_without_guidance_no_step_is_guided() -> None:
    assert not any(column(cells(GateConfig(), 8, 5, is_guided=False), "guided"))


def test_kept_guidance_goes_on() -> None:
    assert all(column(cells(GateConfig(guidance="keep"), 8, 5), "guided"))


def test_a_gate_beyond_the_run_is_one_long_plan() -> None:
    rows = cells(GateConfig(), steps=8, gate_step=99)
    assert set(column(rows, "phase")) == {"planning"}
    assert all(column(rows, "guided"))
    assert not any(column(rows, "self_reused"))


def colors(predicted: set[int], gate_step: int) -> set[tuple[int, ...]]:
    """What the picture of a run of 8 steps is painted in."""
    config = GateConfig(gate=gate_step, self_attention=False)
    cells = planned_cells(config, build_schedule(config, 8, gate_step), True, predicted=predicted)
    return {color for _, color in draw_timeline(cells, "a run", ()).getcolors(2**16)}


def test_the_picture_has_phases_where_there_is_a_gate() -> None:
    assert BLUE in colors(set(), gate_step=5)
    assert BLUE not in colors({3, 5}, gate_step=8)


def test_the_picture_of_predicted_steps_has_one_row() -> None:
    """Of a run without a gate, in which every other row would say the same."""
    config = GateConfig(gate=8)
    schedule = build_schedule(config, 8, 8)
    plain, predicted = (planned_cells(config, schedule, True, predicted=steps) for steps in ((), (3, 5)))
    assert draw_timeline(plain, "", ()).height - draw_timeline(predicted, "", ()).height == 2 * (ROW_HEIGHT + GAP)
