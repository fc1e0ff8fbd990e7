"""Which step a model call belongs to; the sequences are those that the host's samplers were measured to make."""

import random

import pytest
import torch

from tgate_core.engine.steps import StepTracker, growth_in_log_sigma, round_half_up, step_tolerance
from tgate_core.gate.config import GateConfig
from tgate_core.gate.schedule import resolve_gate_step

S = (14.6, 9.0, 6.0, 4.0, 2.5, 1.5, 0.8, 0.3, 0.0)
LAST = 7


def between(step, share=0.5):
    """A noise level inside of a step: `share` of the way from its start to the next step."""
    return S[step] + share * (S[step + 1] - S[step])


def steps_of(sigmas, schedule=S):
    tracker = StepTracker(schedule)
    return [tracker.step_of(sigma) for sigma in sigmas]


def test_first_order_samplers_walk_through_the_schedule():
    assert steps_of(S[:-1]) == [0, 1, 2, 3, 4, 5, 6, 7]


def test_the_second_stage_of_heun_belongs_to_the_step_that_it_looks_at():
    visited = [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]
    assert steps_of([S[i] for i in visited]) == visited


def test_looking_ahead_and_going_back_up_needs_no_memory():
    visited = [0, 1, 2, 1, 2, 3, 2, 3, 4, 3, 4, 5, 4, 5, 6, 5, 6, 7, 6, 7, 7]
    assert steps_of([S[i] for i in visited]) == visited


def test_an_inner_evaluation_belongs_to_the_step_it_starts_in():
    two_stages = [sigma for i in range(LAST) for sigma in (S[i], between(i))]
    assert steps_of([*two_stages, S[LAST]]) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7]
    three_stages = [sigma for i in range(LAST) for sigma in (S[i], between(i, 1 / 3), between(i, 2 / 3))]
    expected = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 7]
    assert steps_of([*three_stages, S[LAST]]) == expected


def test_a_sampler_with_its_own_grid_may_skip_steps():
    visited = [S[0], between(0), between(1), between(3), between(4), between(5), between(6), between(6, 0.9)]
    assert steps_of(visited) == [0, 0, 1, 3, 4, 5, 6, 6]


@pytest.mark.parametrize(
    ("sigma", "step"),
    [(14.59, 0), (14.6 * 1.4, 0), (float("inf"), 0), (0.29, 7), (1e-6, 7), (0.0, 7)],
    ids=["first a hair below", "churned above the first", "unbounded", "in the last step", "almost nothing", "nothing"],
)
def test_every_noise_level_has_a_step(sigma, step):
    assert steps_of([sigma]) == [step]


@pytest.mark.parametrize("step", range(1, 8))
def test_a_call_a_little_above_its_step_still_belongs_to_it(step):
    tolerance = max(1e-5 * S[step], 1e-3 * (S[step] - S[step + 1]))
    assert step_tolerance(S, step) == pytest.approx(tolerance)
    assert steps_of([S[step] + 0.9 * tolerance, S[step] + 1.1 * tolerance]) == [step, step - 1]


def test_where_steps_are_close_the_tolerance_is_relative_to_the_noise_level():
    # Spacing 0.001: a thousandth of it is 1e-6, less than the 1e-5 that rounding needs.
    schedule = (1.0, 0.999, 0.998, 0.0)
    assert steps_of([0.999 + 0.9e-5, 0.999 + 1.2e-5], schedule) == [1, 0]


@pytest.mark.parametrize("through_float32", ["the schedule", "the call"])
def test_rounding_to_single_precision_changes_nothing(through_float32):
    exact = [10.0 * 0.83**i for i in range(40)]
    rounded = torch.tensor(exact, dtype=torch.float32).tolist()
    assert exact != rounded
    schedule, calls = (rounded, exact) if through_float32 == "the schedule" else (exact, rounded)
    assert steps_of(calls, (*schedule, 0.0)) == list(range(40))


def test_on_a_falling_schedule_the_order_of_the_calls_does_not_matter():
    calls = [between(i, share) for i in range(8) for share in (0.0, 0.3, 0.7)]
    expected = dict(zip(calls, steps_of(calls), strict=True))
    shuffled = random.Random(0).sample(calls, len(calls))
    assert steps_of(shuffled) == [expected[sigma] for sigma in shuffled]


def test_a_schedule_of_one_step_has_step_zero_only():
    assert steps_of([5.0, 3.0, 0.0, 9.0], (5.0, 0.0)) == [0, 0, 0, 0]


RESTART = (15.0, 9.0, 6.0, 3.0, 2.0, 1.0, 3.0, 2.0, 1.0, 0.5, 0.2, 0.0)


def test_a_restart_is_followed_through_noise_levels_that_come_twice():
    assert steps_of(RESTART[:-1], RESTART) == list(range(11))


def test_second_order_samplers_are_followed_through_a_restart():
    visited = [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10]
    assert steps_of([RESTART[i] for i in visited], RESTART) == visited


def test_inner_evaluations_stay_in_the_descent_that_the_run_is_in():
    calls = [15.0, 7.0, 6.0, 4.0, 3.0, 2.5, 2.0, 1.5, 1.0, 3.0, 2.5, 2.0, 1.5, 1.0, 0.7, 0.5, 0.1]
    assert steps_of(calls, RESTART) == [0, 1, 2, 2, 3, 3, 4, 4, 5, 6, 6, 7, 7, 8, 8, 9, 10]


def test_an_inner_evaluation_may_go_back_within_its_descent_only():
    assert steps_of([15.0, 9.0, 6.0, 3.0, 7.0], RESTART) == [0, 1, 2, 3, 1]
    assert steps_of([*RESTART[:8], 7.0], RESTART)[-1] == 6  # the second descent starts at 3


def test_going_back_on_a_rising_schedule_finds_the_nearest_earlier_step():
    schedule = (6.0, 3.0, 6.0, 3.0, 1.0, 0.0)
    assert steps_of([6.0, 3.0, 6.0, 3.0, 1.0, 3.0, 6.0], schedule) == [0, 1, 2, 3, 4, 3, 2]


def test_a_noise_level_that_is_listed_twice_in_a_row_is_its_first_step():
    assert steps_of([5.0, 5.0, 3.0, 1.0], (5.0, 5.0, 3.0, 1.0, 0.0)) == [0, 0, 2, 3]
    assert steps_of([9.0, 5.0, 5.0, 3.0], (9.0, 5.0, 5.0, 3.0, 0.0)) == [0, 1, 1, 3]


def test_the_number_of_steps_is_one_less_than_the_noise_levels():
    assert StepTracker(S).steps == 8


def never(percent):
    raise AssertionError("the model's schedule is of no concern here")


@pytest.mark.parametrize(("gate", "step"), [(0.0, 0), (2.4, 2), (2.5, 3), (7.0, 7), (8.0, 8), (300.0, 300)])
def test_a_gate_in_steps_is_rounded_and_independent_of_the_run(gate, step):
    assert resolve_gate_step(GateConfig(gate=gate), S, never) == step


@pytest.mark.parametrize(
    ("gate", "steps", "step"),
    [(0.0, 8, 0), (0.4, 25, 10), (0.5, 8, 4), (0.5, 25, 13), (0.1, 4, 0), (0.25, 4, 1), (1.0, 8, 8)],
)
def test_a_gate_as_a_fraction_follows_the_number_of_steps(gate, steps, step):
    schedule = [float(steps - i) for i in range(steps + 1)]
    assert resolve_gate_step(GateConfig(gate=gate, gate_unit="fraction of steps"), schedule, never) == step


def ten_times_the_rest(percent):
    """A model whose noise level falls evenly from 10 to 0."""
    return 10.0 - 10.0 * percent


@pytest.mark.parametrize(
    ("gate", "step"),
    [(0.0, 0), (0.1, 1), (0.2, 1), (0.35, 2), (0.4, 2), (0.4001, 2), (0.401, 3), (0.8, 4), (0.81, 5), (1.0, 5)],
)
def test_a_gate_in_percent_is_the_first_step_at_or_below_that_noise_level(gate, step):
    # Steps are 2 apart, so up to 0.002 (percent 0.0002) above the gate counts as on it.
    schedule = (10.0, 8.0, 6.0, 4.0, 2.0, 0.0)
    config = GateConfig(gate=gate, gate_unit="percent of schedule")
    assert resolve_gate_step(config, schedule, ten_times_the_rest) == step


def test_a_gate_in_percent_counts_from_the_start_of_the_whole_process():
    config = GateConfig(gate=0.4, gate_unit="percent of schedule")
    assert resolve_gate_step(config, (5.0, 3.0, 1.0, 0.0), ten_times_the_rest) == 0
    assert resolve_gate_step(config, (10.0, 9.0, 8.0, 7.0), ten_times_the_rest) == 3  # it ends before the gate


def test_the_models_schedule_may_answer_with_a_tensor():
    config = GateConfig(gate=0.4, gate_unit="percent of schedule")
    assert resolve_gate_step(config, (10.0, 6.0, 2.0, 0.0), lambda percent: torch.tensor(6.0)) == 1


@pytest.mark.parametrize(("value", "rounded"), [(0.0, 0), (0.49, 0), (0.5, 1), (1.5, 2), (2.5, 3), (2.4, 2), (6.0, 6)])
def test_halves_are_rounded_up(value, rounded):
    assert round_half_up(value) == rounded


def test_a_rise_does_not_widen_the_tolerance_of_the_step_before_it():
    tracker = StepTracker((1.0, 0.05, 0.01, 14.6, 5.0, 0.0))
    assert [tracker.step_of(sigma) for sigma in (1.0, 0.05, 0.0224)] == [0, 1, 1]


def test_growth_of_steps_at_a_level_without_noise():
    """A schedule may come to 0 and rise again."""
    assert growth_in_log_sigma((0.5, 0.0, 0.6, 0.4), 1) == 1.0
    assert growth_in_log_sigma((0.5, 0.0, 0.6, 0.4), 2) == 1.0
