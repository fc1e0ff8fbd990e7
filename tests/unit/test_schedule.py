"""The schedule against the published table, written down here a second time, row by row."""

from itertools import product

import pytest

from tgate_core.engine.actions import CROSS_ATTENTION, SELF_ATTENTION, Action
from tgate_core.gate.config import GateConfig
from tgate_core.gate.schedule import Phase, build_schedule, cross_attention_action, self_attention_action

COMPUTE, CAPTURE, REUSE = Action.COMPUTE, Action.CAPTURE, Action.REUSE
LETTERS = {".": COMPUTE, "+": CAPTURE, "=": REUSE}
PHASES = {"P": Phase.PLANNING, "F": Phase.FIDELITY, "X": Phase.PROTECTED}


def published_row(i, m, sp, fi, warm):
    """(cross-attention, self-attention) of step i: the rows are tried from the top."""
    rows = [
        (i < m - 1 and i < warm, COMPUTE, COMPUTE),
        (i < m - 1 and i == warm, COMPUTE, CAPTURE),
        (i < m - 1 and i > warm and i % sp == 0, COMPUTE, CAPTURE),
        (i < m - 1 and i > warm and i % sp != 0, COMPUTE, REUSE),
        (i == m - 1, CAPTURE, CAPTURE),
        (i >= m and i % fi == 0, REUSE, CAPTURE),
        (i >= m and i % fi != 0, REUSE, REUSE),
    ]
    (found,) = [(cross, self_) for holds, cross, self_ in rows if holds]
    return found


def settings(steps):
    """(m, sp, fi, warm), gates beyond the run included."""
    return product(range(steps + 3), (1, 2, 3, 5), (1, 2, 3, 4), (0, 1, 2, 4))


def source_of_reuse(actions):
    """For each step that reuses, the step whose capture it gets (None: there is none); absent for other steps."""
    sources, latest = {}, None
    for step, action in enumerate(actions):
        if action is REUSE:
            sources[step] = latest
        elif action is CAPTURE:
            latest = step
    return sources


def cross_of(schedule):
    return [plan.cross_attention for plan in schedule.steps]


def self_of(schedule):
    return [plan.self_attention for plan in schedule.steps]


def letters(text):
    return [LETTERS[letter] for letter in text]


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 12, 25])
def test_every_step_does_what_the_published_table_says(steps):
    for m, sp, fi, warm in settings(steps):
        config = GateConfig(gate=m, sp_interval=sp, fi_interval=fi, warm_up=warm)
        for i in range(steps):
            actual = cross_attention_action(i, m), self_attention_action(i, config, m)
            assert actual == published_row(i, m, sp, fi, warm), (i, m, sp, fi, warm)


@pytest.mark.parametrize("protect_last", [0, 1, 3])
@pytest.mark.parametrize("steps", [1, 2, 4, 7, 12])
def test_a_run_reuses_exactly_the_captures_that_the_table_reuses(steps, protect_last):
    for m, sp, fi, warm in settings(steps):
        if m >= steps:
            continue
        config = GateConfig(gate=m, sp_interval=sp, fi_interval=fi, warm_up=warm, protect_last=protect_last)
        schedule = build_schedule(config, steps, m)
        table = [published_row(i, m, sp, fi, warm) for i in range(steps)]
        table = [row if i < steps - protect_last else (COMPUTE, COMPUTE) for i, row in enumerate(table)]
        cross, self_ = zip(*table, strict=True)
        assert source_of_reuse(cross_of(schedule)) == source_of_reuse(cross), (m, sp, fi, warm)
        assert source_of_reuse(self_of(schedule)) == source_of_reuse(self_), (m, sp, fi, warm)


@pytest.mark.parametrize("steps", [1, 2, 4, 7, 12])
def test_no_capture_is_made_that_nothing_reuses(steps):
    for m, sp, fi, warm in settings(steps):
        config = GateConfig(gate=m, sp_interval=sp, fi_interval=fi, warm_up=warm)
        schedule = build_schedule(config, steps, m)
        for actions in (cross_of(schedule), self_of(schedule)):
            captured = {step for step, action in enumerate(actions) if action is CAPTURE}
            assert captured == set(source_of_reuse(actions).values()) - {None}, (m, sp, fi, warm)


@pytest.mark.parametrize("steps", [1, 2, 4, 7, 12])
def test_a_capture_is_live_until_its_last_reuse_and_not_longer(steps):
    for m, sp, fi, warm in settings(steps):
        schedule = build_schedule(GateConfig(sp_interval=sp, fi_interval=fi, warm_up=warm), steps, m)
        for kind, actions in ((CROSS_ATTENTION, cross_of(schedule)), (SELF_ATTENTION, self_of(schedule))):
            expected = tuple(
                any(actions[j] is REUSE and CAPTURE not in actions[i:j] for j in range(i, steps)) for i in range(steps)
            )
            assert schedule.live[kind] == expected, (kind, m, sp, fi, warm)


@pytest.mark.parametrize(
    ("steps", "gate", "sp", "fi", "warm", "protect_last", "cross", "self_"),
    [
        (10, 4, 1, 1, 0, 0, "...+======", ".........."),
        (25, 10, 5, 1, 2, 0, ".........+===============", "..+==+===................"),
        (25, 15, 3, 1, 2, 0, "..............+==========", "...+==+==+==+=..........."),
        (10, 4, 1, 3, 0, 0, "...+======", "...+==+==."),
        (10, 4, 1, 3, 0, 2, "...+====..", "...+==+=.."),
        (10, 6, 4, 2, 1, 0, ".....+====", ".+==..+=+="),
        (4, 1, 1, 1, 0, 0, "+===", "...."),
        (4, 0, 1, 2, 0, 0, "====", "+=+="),
        (6, 4, 5, 1, 0, 4, "......", "+=...."),
        (6, 2, 5, 1, 0, 6, "......", "......"),
        (6, 2, 5, 1, 0, 99, "......", "......"),
    ],
)
def test_worked_examples(steps, gate, sp, fi, warm, protect_last, cross, self_):
    """Cross- and self-attention by step: `.` compute, `+` compute and capture, `=` reuse."""
    config = GateConfig(gate=gate, sp_interval=sp, fi_interval=fi, warm_up=warm, protect_last=protect_last)
    schedule = build_schedule(config, steps, gate)
    assert cross_of(schedule) == letters(cross)
    assert self_of(schedule) == letters(self_)


@pytest.mark.parametrize(
    ("steps", "gate", "protect_last", "phases"),
    [(6, 3, 0, "PPPFFF"), (6, 3, 2, "PPPFXX"), (6, 4, 4, "PPXXXX"), (6, 0, 0, "FFFFFF"), (3, 2, 9, "XXX")],
)
def test_each_step_knows_its_phase(steps, gate, protect_last, phases):
    schedule = build_schedule(GateConfig(protect_last=protect_last), steps, gate)
    assert [plan.phase for plan in schedule.steps] == [PHASES[letter] for letter in phases]
    assert schedule.gate_step == gate


@pytest.mark.parametrize("gate", [8, 9, 10000])
def test_a_gate_at_or_beyond_the_end_gives_the_plain_run(gate):
    schedule = build_schedule(GateConfig(sp_interval=2, fi_interval=2, warm_up=1), 8, gate)
    assert cross_of(schedule) == self_of(schedule) == [COMPUTE] * 8
    assert {plan.phase for plan in schedule.steps} == {Phase.PLANNING}
    assert schedule.gate_step == 8
    assert not schedule.saves_attention


def test_a_gate_on_the_last_step_still_gates_that_step():
    schedule = build_schedule(GateConfig(self_attention=False), 8, 7)
    assert cross_of(schedule) == letters("......+=")
    assert schedule.saves_attention


@pytest.mark.parametrize(("cross", "self_"), [(True, True), (True, False), (False, True), (False, False)])
def test_an_attention_that_is_switched_off_is_computed_throughout(cross, self_):
    config = GateConfig(sp_interval=5, warm_up=2, cross_attention=cross, self_attention=self_)
    schedule = build_schedule(config, 10, 6)
    assert cross_of(schedule) == letters(".....+====" if cross else "..........")
    assert self_of(schedule) == letters("..+==....." if self_ else "..........")
    assert schedule.saves_attention is (cross or self_)


def test_a_step_answers_for_each_kind_of_attention():
    plan = build_schedule(GateConfig(sp_interval=5, warm_up=0), 10, 6).steps[1]
    assert plan.action(SELF_ATTENTION) is REUSE
    assert plan.action(CROSS_ATTENTION) is COMPUTE
