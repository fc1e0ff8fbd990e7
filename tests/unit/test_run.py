"""A whole run, driven pass by pass as the host does it: what each step computes, hands out and keeps."""

from dataclasses import replace

import pytest
import torch
from run_driver import (
    BEFORE_GATE_3,
    COND_ALONE,
    HERE,
    LATENT,
    PAIR,
    STEPS,
    ZEROS,
    C,
    Driver,
    U,
    cross_given,
    cross_only,
    start,
)

from tgate_core.engine.actions import CROSS_ATTENTION, SELF_ATTENTION, Action
from tgate_core.engine.identity import COND, UNCOND, ModelEvaluation
from tgate_core.engine.run import MAX_EVALUATIONS_PER_STEP
from tgate_core.gate.config import GateConfig
from tgate_core.gate.guidance import NO_GUIDANCE


@pytest.mark.parametrize("in_one_call", [True, False])
@pytest.mark.parametrize(
    ("guidance", "after"),
    [
        ("uncond", {"u": 23.0}),
        ("cond", {"c": 24.0}),
        ("cond_mean", {"c": 23.0}),
        ("cached_delta", {"c": 24.0}),
        ("keep", {"c": 24.0, "u": 22.0}),
    ],
)
def test_from_the_gate_on_the_remaining_branch_gets_the_captures_of_the_step_before(guidance, after, in_one_call):
    driver = Driver(start(cross_only(guidance)), in_one_call)
    assert cross_given(driver) == [*BEFORE_GATE_3, after, after, after]


@pytest.mark.parametrize(
    ("guidance", "branch", "uses_merged"),
    [
        ("uncond", UNCOND, True),
        ("cond", COND, False),
        ("cond_mean", COND, True),
        ("cached_delta", COND, False),
        ("keep", None, False),
    ],
)
def test_each_mode_runs_its_branch_after_the_gate(guidance, branch, uses_merged):
    driver = Driver(start(cross_only(guidance)))
    plans = [driver.evaluate(step).plan for step in range(STEPS)]
    assert [plan.branch for plan in plans] == [None] * 3 + [branch] * 3
    assert [plan.uses_merged_captures for plan in plans] == [False] * 3 + [uses_merged] * 3
    assert driver.run.counts.cond_only_passes == (0 if guidance == "keep" else 3)
    assert driver.run.counts.notes == []


@pytest.mark.parametrize(
    ("guidance", "after"),
    [
        ("uncond", [(203.0, 203.0), (204.0, 204.0)]),
        ("cond", [(103.0, 103.0), (104.0, 104.0)]),
        ("cond_mean", [(103.0, 103.0), (104.0, 104.0)]),
        # Kept at step 2 (sigma 4): (102 - 202) / 4 = -25. Step 3 has sigma 3, step 4 has sigma 2.
        ("cached_delta", [(103.0, 103.0 + 75.0), (104.0, 104.0 + 50.0)]),
        ("keep", [(103.0, 203.0), (104.0, 204.0)]),
    ],
)
def test_the_guidance_formula_sees(guidance, after):
    driver = Driver(start(cross_only(guidance)))
    seen = [tuple(p[0, 0, 0, 0].item() for p in driver.evaluate(step).predictions) for step in range(5)]
    assert seen == [(100.0, 200.0), (101.0, 201.0), (102.0, 202.0), *after]


@pytest.mark.parametrize("guidance", ["uncond", "cond", "cached_delta", "keep"])
def test_without_guidance_the_cond_branch_reuses_its_own_captures(guidance):
    driver = Driver(start(cross_only(guidance)))
    assert cross_given(driver, request=COND_ALONE) == [{"c": v} for v in (4.0, 14.0, 24.0, 24.0, 24.0, 24.0)]
    assert driver.run.counts.cond_only_passes == 0
    assert driver.run.counts.notes == ([] if guidance == "keep" else [NO_GUIDANCE])


@pytest.mark.parametrize("in_one_call", [True, False])
def test_self_attention_follows_its_intervals_in_both_phases(in_one_call):
    # Warm-up 1: step 0 computes, 1 captures, 2 reuses, 3 (last before the gate) captures; then 4 captures, 5 reuses.
    config = GateConfig(sp_interval=5, fi_interval=2, warm_up=1)
    driver = Driver(start(config, gate_step=4), in_one_call)
    given = [driver.evaluate(step).given[SELF_ATTENTION] for step in range(STEPS)]
    assert given == [
        {C: 4.0, U: 2.0},
        {C: 14.0, U: 12.0},
        {C: 14.0, U: 12.0},
        {C: 34.0, U: 32.0},
        {U: 42.0},
        {U: 42.0},
    ]


def test_the_first_reuse_after_the_gate_gets_the_mean_of_self_attention_too():
    config = GateConfig(sp_interval=1, fi_interval=4, warm_up=0)
    driver = Driver(start(config, gate_step=3))
    given = [driver.evaluate(step).given[SELF_ATTENTION] for step in range(STEPS)]
    assert given[3:] == [{U: 23.0}, {U: 42.0}, {U: 42.0}]


@pytest.mark.parametrize(("guidance", "bytes_kept"), [("uncond", 24), ("cond", 24), ("cached_delta", 24), ("keep", 48)])
def test_captures_that_no_later_step_needs_take_no_memory(guidance, bytes_kept):
    run = start(cross_only(guidance))
    driver = Driver(run)
    for step in range(4):
        driver.evaluate(step)
    assert run.cache.nbytes == bytes_kept  # (1, 2, 3) floats for each cond that still runs
    assert run.cache.peak_bytes == (48 if guidance in ("uncond", "keep") else 24)


def test_captures_are_released_at_the_step_that_no_longer_wants_them():
    run = start(GateConfig(sp_interval=2, fi_interval=1, warm_up=0, cross_attention=False), gate_step=5)
    driver, alive = Driver(run), []
    for step in range(STEPS):
        driver.evaluate(step)
        alive.append(run.cache.nbytes)
    # Steps 0 and 2 capture both conds for 1 and 3; what 4 would capture is reused by nothing.
    assert alive == [48, 48, 48, 48, 0, 0]


class TestPlain:
    @pytest.mark.parametrize(
        ("config", "gate_step", "is_plain"),
        [
            (cross_only("uncond"), 5, False),
            (cross_only("uncond"), 6, True),
            (cross_only("uncond"), 99, True),
            (cross_only("keep"), 5, False),
            (cross_only("keep"), 6, True),
            (cross_only("keep", cross_attention=False), 3, True),
            (cross_only("cond", cross_attention=False), 3, False),
            (cross_only("keep", protect_last=3), 3, True),
            (cross_only("keep", protect_last=2), 3, False),
        ],
    )
    def test_a_run_is_plain_where_nothing_would_change(self, config, gate_step, is_plain):
        assert start(config, gate_step).is_plain is is_plain

    def test_protected_steps_run_with_guidance_and_compute_everything(self):
        driver = Driver(start(cross_only("uncond", protect_last=2)))
        given = cross_given(driver)
        assert given[3:] == [{"u": 23.0}, {"c": 44.0, "u": 42.0}, {"c": 54.0, "u": 52.0}]
        assert driver.run.counts.cond_only_passes == 1

    @pytest.mark.parametrize("cross_attention", [True, False])
    def test_protected_steps_capture_nothing_and_drop_nothing(self, cross_attention):
        driver = Driver(start(cross_only("cond", cross_attention=cross_attention, protect_last=2)))
        plans = [driver.evaluate(step).plan for step in range(STEPS)]
        assert [plan.branch for plan in plans[3:]] == [COND, None, None]
        assert [plan.actions[CROSS_ATTENTION] for plan in plans[4:]] == [Action.COMPUTE] * 2


class TestStepsThatNeverCome:
    @pytest.mark.parametrize("guidance", ["uncond", "cond", "cached_delta"])
    def test_without_the_last_planning_step_the_first_gated_call_stands_in(self, guidance):
        driver = Driver(start(cross_only(guidance)))
        for step in (0, 1):
            driver.evaluate(step)
        first, second = driver.evaluate(3), driver.evaluate(4)
        assert first.plan.branch is None
        assert first.given[CROSS_ATTENTION] == {C: 34.0, U: 32.0}
        assert second.plan.branch is not None
        assert set(second.given[CROSS_ATTENTION].values()) == {33.0 if guidance == "uncond" else 34.0}

    def test_a_gate_at_step_zero_begins_with_a_guided_call(self):
        driver = Driver(start(cross_only("uncond"), gate_step=0))
        assert cross_given(driver, steps=range(3)) == [{"c": 4.0, "u": 2.0}, {"u": 3.0}, {"u": 3.0}]

    def test_a_sampler_that_goes_back_up_captures_anew(self):
        driver = Driver(start(cross_only("uncond")))
        for step in (0, 1, 2, 3):
            driver.evaluate(step)
        # Two more evaluations of step 2 and 3: places of their own, captured and merged again.
        assert driver.evaluate(2).given[CROSS_ATTENTION] == {C: 24.0, U: 22.0}
        assert driver.evaluate(3).given[CROSS_ATTENTION] == {U: 23.0}


class TestEvaluations:
    def test_the_first_pass_of_a_model_and_window_is_the_main_one(self):
        evaluation = ModelEvaluation(ZEROS)
        assert evaluation.claim_main_pass(1, None, ZEROS)
        assert not evaluation.claim_main_pass(1, None, ZEROS)
        assert evaluation.claim_main_pass(2, None, ZEROS)
        assert evaluation.claim_main_pass(1, "window", ZEROS)
        assert not evaluation.claim_main_pass(1, "window", ZEROS)

    def test_another_shape_is_a_tile_but_within_windows(self):
        tile = torch.zeros(1, 4, 4, 4)
        assert not ModelEvaluation(ZEROS).claim_main_pass(1, None, tile)
        assert ModelEvaluation(ZEROS).claim_main_pass(1, "window", tile)

    def test_other_values_are_another_place(self):
        latent = torch.arange(256.0).reshape(LATENT)
        assert not ModelEvaluation(latent).claim_main_pass(1, None, latent.roll(1, -1))
        assert not ModelEvaluation(latent).claim_main_pass(1, None, latent.half())
        assert ModelEvaluation(latent).claim_main_pass(1, None, latent.clone())

    def test_a_tile_leaves_the_main_pass_to_come(self):
        evaluation = ModelEvaluation(ZEROS)
        assert not evaluation.claim_main_pass(1, None, torch.zeros(1, 4, 4, 4))
        assert evaluation.claim_main_pass(1, None, ZEROS)
        assert not evaluation.claim_main_pass(1, None, ZEROS)

    def test_evaluations_of_a_step_are_counted_and_keep_their_step(self):
        run = start(cross_only())
        evaluations = [ModelEvaluation(ZEROS) for _ in range(4)]
        steps = [run.locate(e, s) for e, s in zip(evaluations, (6.0, 5.0, 5.5, 5.0), strict=True)]
        assert steps == [0, 1, 0, 1]
        assert [evaluation.ordinal for evaluation in evaluations] == [0, 0, 1, 1]
        assert run.locate(evaluations[0], 5.0) == 0  # a further pass of the same evaluation
        assert run.locate(ModelEvaluation(ZEROS), 6.0) == 0
        assert evaluations[0].ordinal == 0

    def test_second_order_evaluations_keep_their_captures_apart(self):
        driver = Driver(start(cross_only("cond")))
        for step in (0, 1, 2):
            driver.evaluate(step)
        second = replace(PAIR, place=HERE._replace(evaluation=1))
        assert driver.run.plan(PAIR, 3).branch == COND
        assert driver.run.plan(second, 3).branch is None  # nothing was captured for it
        driver.evaluate(2, sigma=3.5)
        assert driver.run.plan(second, 3).branch == COND

    def test_an_adaptive_sampler_gets_a_few_gated_evaluations_a_step(self):
        driver = Driver(start(cross_only("uncond")))
        captures = [driver.evaluate(2).plan.actions[CROSS_ATTENTION] for _ in range(6)]
        assert MAX_EVALUATIONS_PER_STEP == 4
        assert captures == [Action.CAPTURE] * 4 + [Action.COMPUTE] * 2
        branches = [driver.evaluate(3).plan.branch for _ in range(6)]
        assert branches == [UNCOND] * 4 + [None] * 2
