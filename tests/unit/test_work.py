"""What share of the work is left out, from the steps of a run alone."""

import pytest

from tgate_core.engine.actions import CROSS_ATTENTION, SELF_ATTENTION
from tgate_core.gate.schedule import Phase
from tgate_core.presets import GENERIC, PUBLISHED_ROWS
from tgate_core.report.timeline import StepCell
from tgate_core.report.work import planned_saving, shares_of

FULL = StepCell(Phase.PLANNING, 0.0, 0.0, is_guided=True)
SINGLE = StepCell(Phase.FIDELITY, 0.0, 0.0, is_guided=False)
PREDICTED = StepCell(Phase.FIDELITY, 0.0, 0.0, is_guided=False, is_predicted=True)


def saved(*cells, family="sdxl", is_guided=True):
    return planned_saving(cells, family, is_guided)


def test_full_steps_save_nothing_and_a_dropped_pass_half_of_its_step():
    assert saved(FULL, FULL) == 0
    assert saved(FULL, SINGLE) == pytest.approx(1 / 4)
    assert saved(SINGLE, SINGLE, is_guided=False) == 0
    assert saved() == 0


def test_a_predicted_step_saves_all_of_it():
    assert saved(FULL, PREDICTED) == pytest.approx(1 / 2)


@pytest.mark.parametrize("family", [*PUBLISHED_ROWS, "something new"])
def test_reused_attention_saves_its_share(family):
    shares = shares_of(family)
    frozen = StepCell(Phase.FIDELITY, 0.5, 1.0, is_guided=False)
    expected = 0.5 * shares.attention[SELF_ATTENTION] + shares.attention[CROSS_ATTENTION]
    assert saved(frozen, family=family, is_guided=False) == pytest.approx(expected)
    assert 0 < expected < 0.5


def test_a_shallow_step_saves_the_deep_blocks():
    shallow = StepCell(Phase.PLANNING, 0.0, 0.0, is_guided=True, is_shallow=True)
    assert saved(shallow, family="sdxl") == pytest.approx(shares_of("sdxl").deep)


def test_an_unknown_family_is_a_usual_network():
    assert shares_of("something new") == shares_of(GENERIC)
