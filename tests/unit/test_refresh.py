"""When the fidelity phase is refreshed: gaps that grow, gaps by error, and none late."""

import pytest
import torch
from run_driver import COND_ALONE, PAIR, STEPS, C, Driver, cross_given, cross_only, finish, start

from tgate_core.engine.identity import COND
from tgate_core.engine.technique import Layout
from tgate_core.gate.refresh import Gap, growing_gaps, last_refresh_step, relative_change, spread_steps
from tgate_core.gate.schedule import Phase

# Twelve steps of which none is late by its length: each sigma is 0.8 of the one before.
EVEN = (*(0.8**step for step in range(12)), 0.0)


@pytest.mark.parametrize(
    ("gate", "first_gap", "last", "expected"),
    [
        (3, 2, 19, [4, 7, 11, 16]),
        (2, 2, 19, [3, 6, 10, 15]),
        (3, 1, 11, [3, 4, 6, 9]),
        (5, 4, 39, [8, 14, 21, 32]),
        (3, 2, 3, []),
        (0, 1, 5, [1, 2, 4]),
    ],
)
def test_gaps_grow_from_the_last_step_before_the_gate(gate, first_gap, last, expected):
    assert sorted(growing_gaps(gate, first_gap, last)) == expected


def test_a_step_that_is_much_longer_than_the_one_before_it_is_late():
    assert last_refresh_step(EVEN) == 10
    assert last_refresh_step((*EVEN[:9], 0.05, 0.001, 0.00001, 0.0)) == 7
    assert last_refresh_step((1.0, 0.0)) == -1
    assert last_refresh_step((4.0, 2.0, 1.0, 0.0)) == 1


def test_schedules_that_rise_have_a_last_step_too():
    assert last_refresh_step((1.0, 0.8, 0.64, 1.0, 0.8, 0.64, 0.0)) == 4
    assert last_refresh_step((1.0, 1.0, 1.0, 0.0)) == 1


def test_change_is_measured_over_the_whole_batch():
    before = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    now = torch.tensor([[0.0, 0.0], [0.0, 4.0]])
    assert relative_change(now, before).item() == pytest.approx(3 / 4)
    assert relative_change(torch.zeros(2), torch.zeros(2)).item() == 0.0


@pytest.mark.parametrize(
    ("steps", "change", "tolerance", "expected"),
    [
        (2, None, 0.5, 2),
        (4, 0.5, 0.5, 4),
        (4, 1.0, 0.5, 2),
        (4, 0.1, 0.5, 8),
        (4, 0.0, 0.5, 8),
        (2, 9.0, 0.5, 1),
        (3, float("nan"), 0.5, 3),
        (3, float("inf"), 0.5, 1),
        (3, 0.5, 0.0, 1),
    ],
)
def test_the_error_sets_the_next_gap(steps, change, tolerance, expected):
    gap = Gap(steps, None if change is None else torch.tensor(change), tolerance)
    assert [gap.steps, gap.steps] == [expected, expected]


def over_even_steps(config):
    """What each step of a run over `EVEN` did, with the gate at step 2."""
    driver = Driver(start(config, 2, EVEN))
    return [driver.evaluate(step, sigma=sigma) for step, sigma in enumerate(EVEN[:-1])]


class TestRun:
    def test_a_refreshed_step_captures_anew_and_is_guided(self):
        driver = Driver(start(cross_only("cond", refresh="growing gaps", refresh_gap=1), gate_step=2))
        assert cross_given(driver) == [
            {"c": 4.0, "u": 2.0},
            {"c": 14.0, "u": 12.0},
            {"c": 24.0, "u": 22.0},
            {"c": 34.0, "u": 32.0},
            {"c": 34.0},
            {"c": 34.0},
        ]
        assert driver.run.techniques[0].executed_phases == [
            *[Phase.PLANNING] * 2,
            *[Phase.REFRESH] * 2,
            *[Phase.FIDELITY] * 2,
        ]

    @pytest.mark.parametrize("guidance", ["uncond", "cond_mean"])
    def test_merged_captures_are_made_anew(self, guidance):
        driver = Driver(start(cross_only(guidance, refresh="growing gaps", refresh_gap=2), gate_step=2))
        key = "u" if guidance == "uncond" else "c"
        given = cross_given(driver)
        assert given[2:] == [{key: 13.0}, {"c": 34.0, "u": 32.0}, {key: 33.0}, {key: 33.0}]

    def test_kept_guidance_has_its_captures_renewed(self):
        driver = Driver(start(cross_only("keep", refresh="growing gaps", refresh_gap=2), gate_step=2))
        captured = {"c": 34.0, "u": 32.0}
        assert cross_given(driver)[2:] == [{"c": 14.0, "u": 12.0}, captured, captured, captured]

    def test_the_difference_is_that_of_the_last_guided_step(self):
        driver = Driver(start(cross_only("cached_delta", refresh="growing gaps", refresh_gap=2), gate_step=2))
        seen = [driver.evaluate(step) for step in range(STEPS)]
        # Predictions are 100 and 200 apart from the step's number: the difference in noise space is -100 / sigma.
        differences = [(s.predictions[0] - s.predictions[1]).mean().item() for s in seen]
        assert differences == pytest.approx([-100, -100, -100 / 5 * 4, -100, -100 / 3 * 2, -100 / 3 * 1])

    def test_without_it_nothing_is_refreshed(self):
        driver = Driver(start(cross_only("cond"), gate_step=2))
        assert cross_given(driver)[2:] == [{"c": 14.0}] * 4
        assert Phase.REFRESH not in driver.run.techniques[0].executed_phases

    def test_other_techniques_run_whole_in_planned_steps(self):
        run = start(cross_only("cond", refresh="growing gaps", refresh_gap=2, protect_last=1), gate_step=2)
        assert run.techniques[0].needs_full == {1, 3, 5}

    def test_captures_that_will_be_renewed_are_given_up_before(self):
        gate = start(cross_only("cond", refresh="growing gaps", refresh_gap=2), gate_step=2).techniques[0]
        gate.lay_out(Layout())
        assert [gate.is_live("attn2", step) for step in range(STEPS)] == [False, False, True, False, True, True]

    def test_a_guess_is_no_refresh_and_the_next_step_makes_up_for_it(self):
        driver = Driver(start(cross_only("cached_delta", refresh="growing gaps", refresh_gap=2), 2, EVEN))
        for step in range(3):
            driver.evaluate(step, sigma=EVEN[step])
        plan = driver.run.plan(PAIR, 3)
        assert plan.branch is None
        assert plan.is_relied_on
        finish(driver.run, plan, [torch.zeros(1, 4, 8, 8)] * 2, EVEN[3], has_run=False)
        assert driver.run.plan(PAIR, 4).branch is None

    def test_a_step_without_guidance_ends_the_difference(self):
        driver = Driver(start(cross_only("cached_delta", refresh="by error", refresh_gap=4), gate_step=2))
        for step in range(3):
            driver.evaluate(step)
        assert driver.run.plan(COND_ALONE, 3).branch is None
        assert driver.run.plan(PAIR, 4).branch is None
        before = Driver(start(cross_only("cached_delta"), gate_step=2))
        for step in range(3):
            before.evaluate(step)
        assert before.run.plan(COND_ALONE, 3).branch is None
        assert before.run.plan(PAIR, 4).branch == COND

    # The difference is off by 1 - 0.8 ** gap.
    @pytest.mark.parametrize(
        ("tolerance", "guided"),
        [(0.0, [0, 1, 3, 4, 5, 6, 7, 8, 9, 10]), (0.37, [0, 1, 3, 5, 7, 9]), (2.0, [0, 1, 3, 7])],
    )
    def test_the_error_decides(self, tolerance, guided):
        config = cross_only("cached_delta", refresh="by error", refresh_gap=2, refresh_tolerance=tolerance)
        seen = over_even_steps(config)
        assert [step for step, one in enumerate(seen) if one.plan.branch is None] == guided

    @pytest.mark.parametrize("guidance", ["uncond", "cond", "cond_mean", "keep"])
    def test_the_error_decides_in_modes_that_hold_no_difference(self, guidance):
        config = cross_only(guidance, refresh="by error", refresh_gap=2, refresh_tolerance=0.0)
        seen = over_even_steps(config)
        captured = [step for step, one in enumerate(seen) if not one.reused]
        assert captured == [0, 1, 3, 4, 5, 6, 7, 8, 9, 10]
        if guidance == "uncond":  # the prediction that ran stands for both, as without refresh
            assert torch.equal(*seen[2].predictions)

    def test_without_guidance_gaps_grow_instead(self):
        driver = Driver(start(cross_only("cached_delta", refresh="by error", refresh_gap=2), gate_step=2))
        context = driver.run.context
        context.has_guidance = False
        gate = type(driver.run.techniques[0])(driver.run.techniques[0].config, context, 2)
        assert gate.needs_full == {1, 3}

    def test_merged_captures_do_not_stay_beside_those_that_replace_them(self):
        def peak(refresh):
            driver = Driver(start(cross_only("uncond", refresh=refresh, refresh_gap=2), gate_step=2))
            for step in range(STEPS):
                driver.evaluate(step)
            return driver.run.cache.peak_bytes

        assert peak("by error") == peak("growing gaps") == peak("never")


def test_captures_of_a_cond_alone_are_renewed_too():
    driver = Driver(start(cross_only("cached_delta", refresh="growing gaps", refresh_gap=2), gate_step=2))
    given = cross_given(driver, request=COND_ALONE)
    assert given == [{C.uuid: value} for value in (4.0, 14.0, 14.0, 34.0, 34.0, 34.0)]


@pytest.mark.parametrize(
    ("steps", "guided", "expected"),
    [(25, 6, (0, 1, 4, 7, 11, 16)), (25, 1, (0,)), (4, 9, (0, 1, 2, 3)), (50, 3, (0, 9, 25)), (9, 2, (0, 3))],
)
def test_guided_steps_spread_over_the_run_in_gaps_that_grow(steps, guided, expected):
    assert spread_steps(steps, guided) == expected


def test_guided_steps_move_closer_where_the_last_may_not_be_late():
    assert spread_steps(15, 9) == (0, 1, 2, 3, 4, 5, 7, 9, 11)
    assert spread_steps(15, 9, 10) == (0, 1, 2, 3, 4, 5, 6, 8, 10)


def test_a_gap_grows_by_parts_of_a_step():
    gap = Gap(1, torch.tensor(0.4), 0.5)
    assert gap.steps == pytest.approx(1.25)
    assert Gap(gap.steps, torch.tensor(0.4), 0.5).steps == pytest.approx(1.5625)
