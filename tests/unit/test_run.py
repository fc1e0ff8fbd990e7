"""A whole run, driven pass by pass as the host does it, with numbers for attention outputs and predictions.

The attentions of step i give 10 * i + 4 for cond and 10 * i + 2 for uncond, so a mean of both ends in 3.
"""

import weakref
from dataclasses import dataclass, field, replace

import pytest
import torch

from tgate_core.branches import CACHE_FULL, NEEDED_BY_OTHERS, NOT_MERGED, SEVERAL_CONDS
from tgate_core.config import GateConfig
from tgate_core.model_pass import PassPlan
from tgate_core.request import COND, UNCOND, CondKey, PassRequest, Place
from tgate_core.run import MAX_EVALUATIONS_PER_STEP, Evaluation, Run
from tgate_core.schedule import ATTENTION_KINDS, CROSS_ATTENTION, SELF_ATTENTION, Action
from tgate_core.storage import CaptureStorage

LATENT = (1, 4, 8, 8)
STEPS = 6
SIGMAS = tuple(float(STEPS - step) for step in range(STEPS + 1))  # 6, 5, … 0
C, U = CondKey(COND, "c"), CondKey(UNCOND, "u")
HERE = Place(model=1, window=None, evaluation=0, conds=None)
WHOLE = frozenset({LATENT[2:]})
PAIR = PassRequest(HERE, ((C,), (U,)), {C: WHOLE, U: WHOLE})
COND_ALONE = PassRequest(HERE, ((C,), None), {C: WHOLE})


def cross_only(guidance="uncond", **settings):
    return GateConfig(guidance=guidance, self_attention=False, **settings)


def start(config, gate_step=3, sigmas=SIGMAS):
    return Run(config, sigmas, gate_step, CaptureStorage("model", lambda device: False))


def value_of(step, cond):
    return 10.0 * step + (4 if cond.branch == COND else 2)


@dataclass
class Seen:
    """What one evaluation did: its plan, what each attention gave by kind and cond, and the predictions."""

    plan: PassPlan
    given: dict[str, dict[CondKey, float]]
    predictions: list[torch.Tensor]
    skipped: int
    repeated: bool


@dataclass
class Driver:
    """Evaluates the model as the host does.

    `in_one_call` puts all conds into one batch; `rows` gives conds another number of tokens than 2.
    """

    run: Run
    in_one_call: bool = True
    rows: dict[CondKey, int] = field(default_factory=dict)
    sites: int = 1

    def evaluate(self, step, request=PAIR, sigma=None):
        sigma = SIGMAS[step] if sigma is None else sigma
        evaluation = Evaluation(LATENT)
        assert self.run.locate(evaluation, sigma) == step
        request = replace(request, place=request.place._replace(evaluation=evaluation.ordinal))
        plan = self.run.plan(request, step)
        given, skipped, has_lost_text = self._pass(plan, step)
        if has_lost_text:
            self.run.note_lost_text(request.place)
            plan = self.run.plan_guided(request, step)
            given, skipped, _ = self._pass(plan, step)
        predictions = [torch.full(LATENT, 100.0 * (branch + 1) + step) for branch in range(len(request.branches))]
        predictions = self.run.finish_pass(plan, predictions, sigma)
        return Seen(plan, given, predictions, skipped, has_lost_text)

    def _pass(self, plan, step):
        latent = torch.zeros(LATENT)
        model_pass = self.run.begin_pass(plan, latent)
        conds = [
            cond
            for branch in range(len(plan.request.branches))
            if plan.branch in (None, branch)
            for cond in plan.request.conds(branch)
        ]
        is_batch = self.in_one_call and not self.rows
        given, skipped = {kind: {} for kind in ATTENTION_KINDS}, 0
        for group in [conds] if is_batch else [[cond] for cond in conds]:
            x = latent.repeat(len(group), 1, 1, 1)
            call = model_pass.begin_call([c.branch for c in group], [c.uuid for c in group], x)
            for kind in ATTENTION_KINDS * self.sites:
                output = self._attend(call, kind, group, step)
                for cond, tokens in zip(group, output.chunk(len(group)), strict=True):
                    given[kind][cond] = tokens[0, 0, 0].item()
            skipped += 0 if call is None else call.skipped
        return given, skipped, model_pass.has_lost_text

    def _attend(self, call, kind, group, step):
        output = torch.cat([torch.full((1, self.rows.get(cond, 2), 3), value_of(step, cond)) for cond in group])
        if call is None:
            return output
        is_skipped = call.enter(kind, ("middle", 0), 0, output)
        return call.leave(kind, torch.full_like(output, float("nan")) if is_skipped else output)


def cross_given(driver, steps=range(STEPS), request=PAIR):
    """Cross-attention outputs by step; conds that did not run are absent."""
    return [{key.uuid: v for key, v in driver.evaluate(i, request).given[CROSS_ATTENTION].items()} for i in steps]


BEFORE_GATE_3 = [{"c": 4.0, "u": 2.0}, {"c": 14.0, "u": 12.0}, {"c": 24.0, "u": 22.0}]


@pytest.mark.parametrize("in_one_call", [True, False])
@pytest.mark.parametrize(
    ("guidance", "after"),
    [
        ("uncond", {"u": 23.0}),
        ("cond", {"c": 24.0}),
        ("cached_delta", {"c": 24.0}),
        ("keep", {"c": 24.0, "u": 22.0}),
    ],
)
def test_from_the_gate_on_the_remaining_branch_gets_the_captures_of_the_step_before(guidance, after, in_one_call):
    driver = Driver(start(cross_only(guidance)), in_one_call)
    assert cross_given(driver) == [*BEFORE_GATE_3, after, after, after]


@pytest.mark.parametrize(
    ("guidance", "branch"), [("uncond", UNCOND), ("cond", COND), ("cached_delta", COND), ("keep", None)]
)
def test_each_mode_runs_its_branch_after_the_gate(guidance, branch):
    driver = Driver(start(cross_only(guidance)))
    assert [driver.evaluate(step).plan.branch for step in range(STEPS)] == [None] * 3 + [branch] * 3
    assert driver.run.statistics.branches_dropped == (0 if guidance == "keep" else 3)
    assert driver.run.statistics.notes == []


@pytest.mark.parametrize(
    ("guidance", "after"),
    [
        ("uncond", [(203.0, 203.0), (204.0, 204.0)]),
        ("cond", [(103.0, 103.0), (104.0, 104.0)]),
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
    assert driver.run.statistics.branches_dropped == 0
    assert driver.run.statistics.notes == []


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
        assert driver.run.statistics.branches_dropped == 1

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
        evaluation = Evaluation(LATENT)
        assert evaluation.admits(1, None, LATENT)
        assert not evaluation.admits(1, None, LATENT)
        assert evaluation.admits(2, None, LATENT)
        assert evaluation.admits(1, "window", LATENT)
        assert not evaluation.admits(1, "window", LATENT)

    def test_another_shape_is_a_tile_but_within_windows(self):
        tile = (1, 4, 4, 4)
        assert not Evaluation(LATENT).admits(1, None, tile)
        assert Evaluation(LATENT).admits(1, "window", tile)

    def test_a_tile_takes_the_place_of_the_main_pass(self):
        evaluation = Evaluation(LATENT)
        assert not evaluation.admits(1, None, (1, 4, 4, 4))
        assert not evaluation.admits(1, None, LATENT)

    def test_evaluations_of_a_step_are_counted_and_keep_their_step(self):
        run = start(cross_only())
        evaluations = [Evaluation(LATENT) for _ in range(4)]
        steps = [run.locate(e, s) for e, s in zip(evaluations, (6.0, 5.0, 5.5, 5.0), strict=True)]
        assert steps == [0, 1, 0, 1]
        assert [evaluation.ordinal for evaluation in evaluations] == [0, 0, 1, 1]
        assert run.locate(evaluations[0], 5.0) == 0  # a further pass of the same evaluation
        assert run.locate(Evaluation(LATENT), 6.0) == 0
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


class TestGuidanceIsKept:
    def test_where_a_branch_has_several_conds(self):
        second = CondKey(COND, "d")
        request = PassRequest(HERE, ((C, second), (U,)), dict.fromkeys((C, second, U), WHOLE))
        driver = Driver(start(cross_only("uncond")))
        given = cross_given(driver, request=request)
        assert given[3:] == [{"c": 24.0, "d": 24.0, "u": 22.0}] * 3
        assert driver.run.statistics.notes == [SEVERAL_CONDS]

    @pytest.mark.parametrize(
        ("guidance", "auxiliary", "branch"),
        [("uncond", "c", None), ("uncond", "u", UNCOND), ("cond", "u", None), ("cond", "c", COND)],
    )
    def test_where_another_node_needs_the_branch(self, guidance, auxiliary, branch):
        driver = Driver(start(cross_only(guidance)))
        assert not driver.run.note_auxiliary(Evaluation(LATENT), [auxiliary])
        assert [driver.evaluate(step).plan.branch for step in range(4)][3] == branch
        assert driver.run.statistics.auxiliary_passes == 1
        assert driver.run.statistics.notes == ([NEEDED_BY_OTHERS] if branch is None else [])

    def test_where_a_node_appears_after_the_captures_of_one_branch_were_dropped(self):
        driver = Driver(start(cross_only("cond")))
        for step in range(4):
            driver.evaluate(step)
        assert not driver.run.note_auxiliary(Evaluation(LATENT), ["u"])
        # Uncond has no capture: it is computed once, and reused from then on.
        assert cross_given(driver, steps=(4, 5)) == [{"c": 24.0, "u": 42.0}] * 2

    def test_a_node_that_appears_where_its_branch_was_dropped_voids_the_evaluation(self):
        driver = Driver(start(cross_only("uncond")))
        for step in range(4):
            driver.evaluate(step)
        evaluation = Evaluation(LATENT, step=4, survivors={"u"})
        dropped = driver.run.statistics.branches_dropped
        assert driver.run.note_auxiliary(evaluation, ["c"])
        assert not driver.run.note_auxiliary(evaluation.again(), ["c"])
        assert driver.run.statistics.branches_dropped == dropped - 1
        assert driver.run.statistics.auxiliary_passes == 1

    @pytest.mark.parametrize(
        ("limit_mb", "branches", "notes"), [(0, [UNCOND] * 3, []), (2, [UNCOND] * 3, []), (1, [None] * 3, [CACHE_FULL])]
    )
    def test_where_the_cache_has_no_room(self, limit_mb, branches, notes):
        driver = Driver(start(cross_only("uncond", cache_limit_mb=limit_mb)))
        driver.rows = {C: 50_000, U: 50_000}  # 600,000 bytes each: the second is the one that exceeds 1 MiB
        plans = [driver.evaluate(step).plan for step in range(STEPS)]
        assert [plan.branch for plan in plans[3:]] == branches
        assert driver.run.statistics.notes == notes

    def test_a_full_cache_keeps_no_guidance_where_no_text_depends_on_it(self):
        config = GateConfig(sp_interval=2, warm_up=0, fi_interval=2, cross_attention=False, cache_limit_mb=1)
        driver = Driver(start(config), rows={C: 100_000, U: 100_000})
        plans = [driver.evaluate(step).plan for step in range(STEPS)]
        assert driver.run.cache.has_refused
        assert [plan.branch for plan in plans[3:]] == [UNCOND] * 3


class TestLostText:
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
        assert driver.run.statistics.branches_dropped == 0

    def test_the_repeated_pass_captures_for_the_next_step(self):
        _, (_, seen) = self.drive([3, 4])
        assert not seen.repeated
        assert seen.given[CROSS_ATTENTION] == {U: 33.0}

    def test_twice_and_guidance_stays_for_the_rest_of_the_run(self):
        driver = Driver(start(cross_only("uncond")))
        driver.evaluate(2)
        driver.run.note_lost_text(HERE)
        assert driver.run.plan(PAIR, 3).branch == UNCOND
        driver.run.note_lost_text(HERE)
        assert driver.run.plan(PAIR, 3).branch is None
        assert driver.run.statistics.notes == [NOT_MERGED]
        elsewhere = replace(PAIR, place=HERE._replace(window="another"))
        assert driver.run.plan_guided(elsewhere, 3).branch is None
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
            run.locate(Evaluation(LATENT), SIGMAS[1])
            run.locate(Evaluation(LATENT), SIGMAS[3])
        assert run.plan(PAIR, 3).branch == COND


class TestDifference:
    @pytest.mark.parametrize(("guidance", "keeps"), [("cached_delta", True), ("cond", False), ("keep", False)])
    def test_predictions_are_held_only_by_the_mode_that_needs_their_difference(self, guidance, keeps):
        run = start(cross_only(guidance))
        seen = Driver(run).evaluate(2)
        assert seen.plan.sets_baseline
        assert any(kept.difference is not None for kept in run._baselines.values()) is keeps

    def test_at_noise_level_zero_there_is_none(self):
        run = start(cross_only("cached_delta", cross_attention=False), gate_step=STEPS - 1)
        predictions = [torch.ones(LATENT), torch.zeros(LATENT)]
        assert run.finish_pass(PassPlan(PAIR, {}, sets_baseline=True), predictions, 0.0) is predictions
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
            run.finish_pass(run.plan(request, 2), [torch.full(LATENT, cond), torch.zeros(LATENT)], 2.0)
        uncond = [
            run.finish_pass(run.plan(request, 3), [torch.zeros(LATENT)] * 2, 1.0)[UNCOND][0, 0, 0, 0].item()
            for request in (PAIR, other)
        ]
        assert uncond == [-3.0, -6.0]


@pytest.mark.parametrize("guidance", ["uncond", "cond", "cached_delta", "keep"])
def test_a_closed_run_holds_no_tensor(guidance):
    run = start(GateConfig(guidance=guidance, sp_interval=2, fi_interval=2, warm_up=0))
    references = []

    def keep(tensor):
        references.append(weakref.ref(tensor))
        return tensor

    run.cache._keep = keep
    driver = Driver(run)
    for step in range(4):
        driver.evaluate(step)
    references += [weakref.ref(kept.difference) for kept in run._baselines.values() if kept.difference is not None]
    assert any(reference() is not None for reference in references)
    run.evaluation = Evaluation(LATENT)
    peak = run.cache.peak_bytes
    run.close()
    assert all(reference() is None for reference in references)
    assert run.evaluation is None
    assert peak > 0
    assert run.statistics.peak_cache_bytes == peak


def test_captures_that_do_not_fit_together_keep_guidance_and_their_own_use():
    """Cond and uncond with other token counts at every site: each goes on with its own, and the note says why."""
    cond, uncond, whole = CondKey(0, "c"), CondKey(1, "u"), frozenset({(8, 8)})
    request = PassRequest(Place(1, None, 0, None), ((cond,), (uncond,)), {cond: whole, uncond: whole})
    sigmas = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0]
    run = Run(GateConfig(guidance="uncond", self_attention=False), sigmas, 3, lambda tensor: tensor)
    skipped = []
    for step in range(2, 6):
        run.locate(Evaluation((1, 4, 8, 8)), sigmas[step])
        plan = run.plan(request, step)
        assert plan.branch is None
        model_pass = run.begin_pass(plan, torch.zeros(1, 4, 8, 8))
        for key, rows in ((cond, 2), (uncond, 5)):
            call = model_pass.begin_call([key.branch], [key.uuid], torch.zeros(1, 4, 8, 8))
            call.enter(CROSS_ATTENTION, "block", 0, torch.ones(1, rows, 3))
            call.leave(CROSS_ATTENTION, torch.ones(1, rows, 3))
            skipped.append(call.skipped)
    assert skipped == [0, 0] + [1] * 6
    assert run.statistics.notes == [NOT_MERGED]


def test_a_fidelity_phase_that_is_protected_throughout_is_plain():
    sigmas = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0]
    config = GateConfig(guidance="cond", self_attention=False, protect_last=3)
    assert Run(config, sigmas, 3, lambda tensor: tensor).is_plain
    assert not Run(config, sigmas, 2, lambda tensor: tensor).is_plain
