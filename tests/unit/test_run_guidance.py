"""A whole run: where guidance has to stay, what is given up, what the formula sees, and the end of it."""

import weakref
from dataclasses import replace

import pytest
import torch
from run_driver import (
    COND_ALONE,
    HERE,
    LATENT,
    PAIR,
    SIGMAS,
    STEPS,
    WHOLE,
    ZEROS,
    C,
    Driver,
    U,
    cross_given,
    cross_only,
    finish,
    plan_guided,
    start,
)

from tgate_core.engine.actions import CROSS_ATTENTION, Action
from tgate_core.engine.identity import COND, UNCOND, CondBatch, CondKey, ModelEvaluation, Place
from tgate_core.engine.technique import BatchPlan
from tgate_core.gate.config import GateConfig
from tgate_core.gate.guidance import NEEDED_BY_OTHERS, SEVERAL_CONDS
from tgate_core.gate.technique import CACHE_FULL, NOT_MERGED


class TestGuidanceIsKept:
    def test_where_a_branch_has_several_conds(self):
        second = CondKey(COND, "d")
        request = CondBatch(HERE, ((C, second), (U,)), dict.fromkeys((C, second, U), WHOLE))
        driver = Driver(start(cross_only("uncond")))
        given = cross_given(driver, request=request)
        assert given[3:] == [{"c": 24.0, "d": 24.0, "u": 22.0}] * 3
        assert driver.run.counts.notes == [SEVERAL_CONDS]

    @pytest.mark.parametrize(
        ("guidance", "auxiliary", "branch"),
        [("uncond", "c", None), ("uncond", "u", UNCOND), ("cond", "u", None), ("cond", "c", COND)],
    )
    def test_where_another_node_needs_the_branch(self, guidance, auxiliary, branch):
        driver = Driver(start(cross_only(guidance)))
        assert not driver.run.note_auxiliary(ModelEvaluation(ZEROS), [auxiliary])
        assert [driver.evaluate(step).plan.branch for step in range(4)][3] == branch
        assert driver.run.counts.auxiliary_passes == 1
        assert driver.run.counts.notes == ([NEEDED_BY_OTHERS] if branch is None else [])

    def test_where_a_node_appears_after_the_captures_of_one_branch_were_dropped(self):
        driver = Driver(start(cross_only("cond")))
        for step in range(4):
            driver.evaluate(step)
        assert not driver.run.note_auxiliary(ModelEvaluation(ZEROS), ["u"])
        # Uncond has no capture: it is computed once, and reused from then on.
        assert cross_given(driver, steps=(4, 5)) == [{"c": 24.0, "u": 42.0}] * 2

    def test_a_node_that_appears_where_its_branch_was_dropped_voids_the_evaluation(self):
        driver = Driver(start(cross_only("uncond")))
        for step in range(4):
            driver.evaluate(step)
        plan = driver.evaluate(4).plan
        evaluation = ModelEvaluation(ZEROS, step=4, survivors={"u"}, plans=[plan])
        dropped = driver.run.counts.cond_only_passes
        assert driver.run.note_auxiliary(evaluation, ["c"])
        assert not driver.run.note_auxiliary(evaluation.again(), ["c"])
        assert driver.run.counts.cond_only_passes == dropped - 1
        assert driver.run.counts.auxiliary_passes == 1

    @pytest.mark.parametrize(
        ("limit_mb", "branches", "notes"), [(0, [UNCOND] * 3, []), (2, [UNCOND] * 3, []), (1, [None] * 3, [CACHE_FULL])]
    )
    def test_where_the_cache_has_no_room(self, limit_mb, branches, notes):
        driver = Driver(start(cross_only("uncond", cache_limit_mb=limit_mb)))
        driver.rows = {C: 50_000, U: 50_000}  # 600,000 bytes each: the second is the one that exceeds 1 MiB
        plans = [driver.evaluate(step).plan for step in range(STEPS)]
        assert [plan.branch for plan in plans[3:]] == branches
        assert driver.run.counts.notes == notes

    def test_a_full_cache_keeps_no_guidance_where_no_text_depends_on_it(self):
        config = GateConfig(sp_interval=2, warm_up=0, fi_interval=2, cross_attention=False, cache_limit_mb=1)
        driver = Driver(start(config), rows={C: 100_000, U: 100_000})
        plans = [driver.evaluate(step).plan for step in range(STEPS)]
        assert driver.run.cache.has_refused
        assert [plan.branch for plan in plans[3:]] == [UNCOND] * 3


class TestAnchorMiss:
    def drive(self, steps):
        """A run where one of two sites of cross-attention never fits, as if another node resized its tokens."""
        driver = Driver(start(cross_only("uncond")))
        driver.evaluate(2)
        assert driver.run.plan(PAIR, 3).branch == UNCOND
        driver.sites = 2  # the second site has no capture
        return driver, [driver.evaluate(step) for step in steps]

    def test_a_pass_that_missed_a_capture_is_repeated_with_guidance(self):
        driver, (seen,) = self.drive([3])
        assert seen.repeated
        assert seen.plan.branch is None
        assert seen.plan.actions[CROSS_ATTENTION] is Action.CAPTURE
        assert seen.given[CROSS_ATTENTION] == {C: 34.0, U: 32.0}
        assert driver.run.counts.cond_only_passes == 0

    def test_the_repeated_pass_captures_for_the_next_step(self):
        _, (_, seen) = self.drive([3, 4])
        assert not seen.repeated
        assert seen.given[CROSS_ATTENTION] == {U: 33.0}

    def test_twice_and_guidance_stays_for_the_rest_of_the_run(self):
        driver = Driver(start(cross_only("uncond")))
        driver.evaluate(2)
        driver.run.techniques[0].note_anchor_miss(HERE)
        assert driver.run.plan(PAIR, 3).branch == UNCOND
        driver.run.techniques[0].note_anchor_miss(HERE)
        assert driver.run.plan(PAIR, 3).branch is None
        assert driver.run.counts.notes == [NOT_MERGED]
        elsewhere = replace(PAIR, place=HERE._replace(window="another"))
        assert plan_guided(driver.run, elsewhere, 3).branch is None
        assert cross_given(driver, steps=(3, 4, 5))[1:] == [{"c": 34.0, "u": 32.0}] * 2


class TestForgetting:
    def test_a_window_that_moved_on_is_given_up_after_two_steps(self):
        moved = replace(PAIR, place=HERE._replace(window="moved"))
        run = start(cross_only("cond"))
        driver = Driver(run)
        driver.evaluate(2, moved)
        assert run.cache.nbytes == 24
        driver.evaluate(3)
        driver.evaluate(4)
        assert run.plan(moved, 4).branch == COND
        driver.evaluate(5)
        assert run.plan(moved, 5).branch is None
        assert run.cache.nbytes == 24  # that of the other window

    def test_a_guidance_difference_that_is_in_use_stays(self):
        driver = Driver(start(cross_only("cached_delta"), gate_step=1))
        assert [driver.evaluate(step).plan.branch for step in range(STEPS)] == [None] + [COND] * 5

    def test_a_guidance_difference_that_nobody_used_is_given_up(self):
        run = start(cross_only("cached_delta", cross_attention=False), gate_step=1)
        driver = Driver(run)
        driver.evaluate(0)
        for step in (1, 2):
            driver.evaluate(step, COND_ALONE)
        assert run.plan(PAIR, 2).branch == COND
        driver.evaluate(3, COND_ALONE)
        assert run.plan(PAIR, 3).branch is None

    def test_a_step_that_comes_back_is_no_progress(self):
        run = start(cross_only("cond"))
        driver = Driver(run)
        driver.evaluate(2)
        for _ in range(3):
            run.locate(ModelEvaluation(ZEROS), SIGMAS[1])
            run.locate(ModelEvaluation(ZEROS), SIGMAS[3])
        assert run.plan(PAIR, 3).branch == COND


class TestDifference:
    @pytest.mark.parametrize(("guidance", "keeps"), [("cached_delta", True), ("cond", False), ("keep", False)])
    def test_predictions_are_held_only_by_the_mode_that_needs_their_difference(self, guidance, keeps):
        run = start(cross_only(guidance))
        seen = Driver(run).evaluate(2)
        assert seen.plan.is_relied_on
        assert any(kept.difference is not None for kept in run.techniques[0]._baselines.values()) is keeps

    def test_at_noise_level_zero_there_is_none(self):
        run = start(cross_only("cached_delta", cross_attention=False), gate_step=STEPS - 1)
        predictions = [torch.ones(LATENT), torch.zeros(LATENT)]
        assert finish(run, BatchPlan(PAIR, is_relied_on=True), predictions, 0.0) is predictions
        assert run.plan(PAIR, STEPS - 1).branch is None

    def test_without_guidance_there_is_none(self):
        run = start(cross_only("cached_delta", cross_attention=False))
        Driver(run).evaluate(2, COND_ALONE)
        assert run.plan(PAIR, 3).branch is None

    def test_a_place_without_one_gets_it_from_a_guided_pass_that_leaves_cross_attention_alone(self):
        driver = Driver(start(cross_only("cached_delta", cross_attention=False)))
        driver.evaluate(2)
        elsewhere = replace(PAIR, place=HERE._replace(window="another"))
        first, second = driver.evaluate(3, elsewhere), driver.evaluate(4, elsewhere)
        assert (first.plan.branch, second.plan.branch) == (None, COND)
        assert first.plan.actions[CROSS_ATTENTION] is Action.COMPUTE

    def test_each_place_has_its_own(self):
        run = start(cross_only("cached_delta", cross_attention=False))
        other = replace(PAIR, place=HERE._replace(window="other"))
        for request, cond in ((PAIR, 6.0), (other, 12.0)):
            finish(run, run.plan(request, 2), [torch.full(LATENT, cond), torch.zeros(LATENT)], 2.0)
        uncond = [
            finish(run, run.plan(request, 3), [torch.zeros(LATENT)] * 2, 1.0)[UNCOND][0, 0, 0, 0].item()
            for request in (PAIR, other)
        ]
        assert uncond == [-3.0, -6.0]


@pytest.mark.parametrize("guidance", ["uncond", "cond", "cached_delta", "keep"])
def test_a_closed_run_holds_no_tensor(guidance):
    references = []

    def store(tensor):
        references.append(weakref.ref(tensor))
        return tensor

    run = start(GateConfig(guidance=guidance, sp_interval=2, fi_interval=2, warm_up=0), store=store)
    driver = Driver(run)
    for step in range(4):
        driver.evaluate(step)
    references += [
        weakref.ref(kept.difference) for kept in run.techniques[0]._baselines.values() if kept.difference is not None
    ]
    assert any(reference() is not None for reference in references)
    run.evaluation = ModelEvaluation(ZEROS)
    peak = run.cache.peak_bytes
    run.close()
    assert all(reference() is None for reference in references)
    assert run.evaluation is None
    assert peak > 0
    assert run.counts.peak_cache_bytes == peak


def test_captures_that_do_not_fit_together_keep_guidance_and_their_own_use():
    """Cond and uncond with other token counts at every site: each goes on with its own, and the note says why."""
    cond, uncond, whole = CondKey(0, "c"), CondKey(1, "u"), frozenset({(8, 8)})
    request = CondBatch(Place(1, None, 0, None), ((cond,), (uncond,)), {cond: whole, uncond: whole})
    sigmas = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0]
    run = start(GateConfig(guidance="uncond", self_attention=False), 3, sigmas, store=lambda tensor: tensor)
    reused = []
    for step in range(2, 6):
        run.locate(ModelEvaluation(ZEROS), sigmas[step])
        plan = run.plan(request, step)
        assert plan.branch is None
        model_pass = run.begin_pass(plan, torch.zeros(1, 4, 8, 8))
        for key, rows in ((cond, 2), (uncond, 5)):
            call = model_pass.begin_call([key.branch], [key.uuid], torch.zeros(1, 4, 8, 8))
            if call.reuse(CROSS_ATTENTION, "block", 0, torch.ones(1, rows, 3)) is None:
                call.capture(CROSS_ATTENTION, torch.ones(1, rows, 3))
            reused.append(call.reused.total())
    assert reused == [0, 0] + [1] * 6
    assert run.counts.notes == [NOT_MERGED]


def test_a_fidelity_phase_that_is_protected_throughout_is_plain():
    sigmas = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0]
    config = GateConfig(guidance="cond", self_attention=False, protect_last=3)
    assert start(config, 3, sigmas).is_plain
    assert not start(config, 2, sigmas).is_plain
