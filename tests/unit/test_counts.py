from collections import Counter

import pytest

from tgate_core.engine.actions import Action
from tgate_core.engine.counts import CallShape, RunCounts
from tgate_core.engine.forward import ForwardCall
from tgate_core.engine.identity import COND, UNCOND, CondBatch, CondKey, Place
from tgate_core.engine.technique import BatchPlan
from tgate_core.report.record import RunRecord
from tgate_core.report.text import summary_text

C, U = CondKey(COND, "c"), CondKey(UNCOND, "u")
PAIR = CondBatch(Place(1, None, 0, None), ((C,), (U,)), {})
SHAPE = CallShape((4, 8, 8), (77, 768))


def call(plan, met=0, reused=0):
    made = ForwardCall(None, plan)
    made.met, made.reused = Counter(attn2=met), Counter(attn2=reused)
    made.computed = met - reused
    return made


def record(counts, gate_step, shallow_steps=0, is_plain=False):
    return RunRecord("sd15", counts, (), gate_step, shallow_steps, is_plain, seconds=1.0)


def test_a_reason_is_kept_once():
    counts = RunCounts()
    assert counts.note("tiles")
    assert counts.note("areas")
    assert not counts.note("tiles")
    assert counts.notes == ["tiles", "areas"]


def test_two_runs_do_not_share_their_notes():
    RunCounts().note("tiles")
    assert RunCounts().notes == []


def test_totals_are_the_sums_of_the_steps():
    counts = RunCounts(steps=3)
    for step, branch in enumerate((None, COND, COND)):
        plan = BatchPlan(PAIR, step, branch=branch)
        counts.begin_pass(plan)
        counts.end_call(call(plan, met=10, reused=0 if branch is None else 10), SHAPE, 2 if branch is None else 1)
    counts.end_call(ForwardCall(None), SHAPE, 1)  # another node's own
    assert (counts.guided_passes, counts.cond_only_passes) == (1, 2)
    assert (counts.attentions_computed, counts.attentions_reused) == (10, 20)
    assert counts.network_calls == 4
    assert [counts.by_step[step].reused_share["attn2"] for step in range(3)] == [0.0, 1.0, 1.0]
    rows = counts.rows[SHAPE, False]
    assert (rows.rows, rows.plain_rows, rows.reused["attn2"]) == (5, 2 + 2 + 2 + 1, 2.0)


@pytest.mark.parametrize("branch", [None, COND])
def test_of_a_void_pass_there_remains_what_the_network_did(branch):
    """Two rows ran, and one or two for nothing before: the plain run has two."""
    counts, void = RunCounts(steps=1), 2 if branch is None else 1
    for plan, rows in ((BatchPlan(PAIR, 0, branch=branch), void), (BatchPlan(PAIR, 0), 2)):
        counts.begin_pass(plan)
        counts.end_call(call(plan, met=10, reused=0), SHAPE, rows)
        if counts.network_calls == 1:
            counts.take_back(plan)
    assert (counts.passes, counts.guided_passes, counts.cond_only_passes) == (1, 1, 0)
    assert (counts.rows[SHAPE, False].rows, counts.rows[SHAPE, False].plain_rows) == (void + 2, 2)


def test_a_pass_that_was_predicted_for_nothing_is_taken_back():
    counts = RunCounts(steps=2)
    for plan in (BatchPlan(PAIR, 0), BatchPlan(PAIR, 1, runs_network=False)):
        counts.begin_pass(plan)
        if plan.runs_network:
            counts.end_call(call(plan, met=10, reused=0), SHAPE, 2)
    counts.take_back(plan)
    assert (counts.passes, counts.skipped_passes, counts.rows[SHAPE, False].plain_rows) == (1, 0, 2)


def test_a_pass_without_the_network_is_counted():
    counts = RunCounts(steps=1)
    counts.begin_pass(BatchPlan(PAIR, 0, runs_network=False))
    assert counts.by_step[0].skipped_passes == 1


@pytest.mark.parametrize("action", list(Action))
def test_a_plan_is_idle_where_nothing_is_captured_or_reused(action):
    plan = BatchPlan(PAIR, actions={"attn1": Action.COMPUTE, "attn2": action})
    assert plan.is_idle is (action is Action.COMPUTE)


def test_the_summary_is_one_line_with_every_number_in_its_place():
    counts = RunCounts(steps=25, attentions_computed=300, peak_cache_bytes=3 * 2**19)
    counts.by_step[10].reused = 100
    counts.by_step[10].cond_only_passes = 15
    assert summary_text(record(counts, 10)) == (
        "gate at step 10 of 25; 100 of 400 attentions reused, guidance dropped in 15 evaluations, cache peak 1.5 MiB"
    )


def test_the_summary_ends_with_the_reasons():
    counts = RunCounts(steps=1)
    counts.note("tiles")
    counts.note("areas")
    assert summary_text(record(counts, 0)).endswith(" evaluations; tiles; areas")


def test_the_summary_names_deep_cache_beside_a_gate_and_alone():
    counts = RunCounts(steps=25, network_calls=25)
    counts.by_step[1].shallow_calls = 16
    assert summary_text(record(counts, 10, 16)) == (
        "gate at step 10 of 25; 0 of 0 attentions reused, guidance dropped in 0 evaluations, "
        "16 of 25 network calls left out the deep blocks"
    )
    assert summary_text(record(counts, 25, 16)) == "16 of 25 network calls left out the deep blocks"
