"""Conditionings of every shape: the branch rule, and results equal to the method written a second time."""

from __future__ import annotations

import logging

import comfy_extras.nodes_hooks as hook_nodes
import comfy_extras.nodes_model_advanced as model_advanced
import graphs
import pytest
import tiny
import torch
import variants
from conditioning_cases import CASES
from record import recording
from reference import reference
from tiny import distance
from variants import ATTENTIONS

GUIDANCE = ["uncond", "cond", "cached_delta", "keep"]
SURVIVORS = {"uncond": [1], "cond": [0], "cached_delta": [0]}
EXACT = 1e-6  # of the latent's spread; the effect of T-GATE is above 1e-3
UNIFORM = {"steps": 8, "scheduler": "sgm_uniform"}  # step i begins at i/8 of the schedule
A, B, NEGATIVE = tiny.text(1), tiny.text(3), tiny.text(2)


@pytest.fixture(scope="module")
def model():
    return variants.one_level()


def branches_by_step(record):
    """Sorted branches of each step, all its calls together."""
    steps = {}
    for call in record.calls:
        steps.setdefault(call.sigma, []).extend(call.branches)
    return [sorted(branches) for branches in steps.values()]


def full(positive, negative):
    return [0] * positive + [1] * negative


@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize("name", CASES)
def test_every_conditioning_is_gated_by_the_branch_rule(model, gated, caplog, name, guidance):
    caplog.set_level(logging.INFO)
    case = CASES[name]
    positive, negative = case.build()
    run = {"positive": positive, "negative": negative, "cfg": case.cfg, "steps": 6}
    effective = case.effective(guidance)
    patched = gated(model, gate=3.0, guidance=guidance)
    with recording(model, patched) as record:
        result = tiny.sample(patched, **run)
    survivors = full(*case.conds)
    if effective != "keep":
        survivors = [branch for branch in survivors if branch in SURVIVORS[effective]]
    by_step = branches_by_step(record)
    assert by_step[2:] == [full(*case.conds)] + [survivors] * 3
    after = [call for call in record.calls if call.sigma <= record.sigmas[3] * 1.0001]
    assert {call.cross_attention for call in after} == {0}
    assert distance(result, tiny.sample(reference(model, 3, effective), **run)) < EXACT
    is_kept_by_the_rule = effective != guidance and case.is_guided
    assert caplog.text.count("guidance kept: a branch has several conds") == int(is_kept_by_the_rule)


@pytest.mark.oldest
@pytest.mark.parametrize("name", CASES)
def test_every_conditioning_is_left_alone_while_the_gate_is_beyond_the_run(model, gated, name):
    positive, negative = CASES[name].build()
    run = {"positive": positive, "negative": negative, "cfg": CASES[name].cfg, "steps": 4}
    assert torch.equal(tiny.sample(gated(model, gate=4.0, sp_interval=2), **run), tiny.sample(model, **run))


# --- timestep ranges --------------------------------------------------------------------------------------------------


def in_two_runs(model, at, before, after, guidance):
    """What a switch after the gate amounts to: a second run from that step on, which captures with its first call."""
    half = graphs.ksampler_advanced(
        reference(model, 3, guidance), end_at_step=at, return_with_leftover_noise="enable", **UNIFORM, **before
    )
    return graphs.ksampler_advanced(
        reference(model, 1, guidance), graphs.latent(half), start_at_step=at, add_noise="disable", **UNIFORM, **after
    )


@pytest.mark.parametrize("guidance", ["uncond", "cond", "cached_delta"])
def test_a_prompt_switch_after_the_gate_is_captured_anew(model, gated, guidance):
    patched = gated(model, gate=3.0, guidance=guidance)
    positive = graphs.combine(graphs.ranged(A, 0.0, 0.6), graphs.ranged(B, 0.6, 1.0))
    with recording(model, patched) as record:
        result = graphs.ksampler_advanced(patched, positive=positive, **UNIFORM)
    alone = SURVIVORS[guidance]
    assert branches_by_step(record) == [[0, 1]] * 3 + [alone] * 2 + [[0, 1]] + [alone] * 2
    assert record.per_call("cross_attention") == [ATTENTIONS] * 3 + [0] * 2 + [ATTENTIONS] + [0] * 2
    expected = in_two_runs(model, 5, {"positive": A}, {"positive": B}, guidance)
    assert distance(result, expected) < 1e-4


@pytest.mark.parametrize("is_split", [False, True], ids=["one call", "two calls"])
def test_a_prompt_switch_with_guidance_kept_computes_the_new_prompt_alone(gated, is_split):
    """The negative goes on with its own captures, whether or not it shares a call with the new prompt."""
    model = variants.one_level()
    if is_split:
        tiny.split_all_conds(model)
    patched = gated(model, gate=3.0, guidance="keep")
    positive = graphs.combine(graphs.ranged(A, 0.0, 0.6), graphs.ranged(B, 0.6, 1.0))
    with recording(model, patched) as record:
        result = graphs.ksampler_advanced(patched, positive=positive, **UNIFORM)
    assert branches_by_step(record) == [[0, 1]] * 8
    expected_result = graphs.ksampler_advanced(reference(model, 3, "keep"), positive=positive, **UNIFORM)
    assert distance(result, expected_result) < EXACT


def test_a_prompt_switch_in_the_planning_phase_leaves_the_negatives_captures(gated):
    """Self-attention: the new prompt begins on a step that reuses; the negative must not be computed along with it."""
    results = []
    for is_split in (False, True):
        model = variants.one_level()
        if is_split:
            tiny.split_all_conds(model)
        patched = gated(model, gate=7.0, sp_interval=5, cross_attention=False)
        positive = graphs.combine(graphs.ranged(A, 0.0, 0.2), graphs.ranged(B, 0.2, 1.0))
        results.append(graphs.ksampler_advanced(patched, positive=positive, **UNIFORM))
    assert distance(results[0], results[1]) < 1e-4


@pytest.mark.parametrize("guidance", ["uncond", "cached_delta"])
def test_a_negative_switch_after_the_gate_is_captured_anew(model, gated, guidance):
    """The mean anchor and the kept difference belong to the negative they were made with."""
    patched = gated(model, gate=3.0, guidance=guidance)
    negative = graphs.combine(graphs.ranged(NEGATIVE, 0.0, 0.6), graphs.ranged(B, 0.6, 1.0))
    with recording(model, patched) as record:
        result = graphs.ksampler_advanced(patched, negative=negative, **UNIFORM)
    alone = SURVIVORS[guidance]
    assert branches_by_step(record) == [[0, 1]] * 3 + [alone] * 2 + [[0, 1]] + [alone] * 2
    expected = in_two_runs(model, 5, {"negative": NEGATIVE}, {"negative": B}, guidance)
    assert distance(result, expected) < 1e-4


@pytest.mark.parametrize("side", ["positive", "negative"])
def test_a_switch_remakes_the_difference_without_any_capture(model, gated, side):
    """Cross-attention off: the kept difference is all there is, and it too belongs to its conds."""
    patched = gated(model, gate=3.0, guidance="cached_delta", cross_attention=False)
    first = {"positive": A, "negative": NEGATIVE}[side]
    conds = graphs.combine(graphs.ranged(first, 0.0, 0.6), graphs.ranged(B, 0.6, 1.0))
    with recording(model, patched) as record:
        tiny.sample(patched, **{side: conds}, **UNIFORM)
    assert branches_by_step(record) == [[0, 1]] * 3 + [[0]] * 2 + [[0, 1]] + [[0]] * 2


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_a_gap_in_the_prompt_is_the_hosts_affair(model, gated, guidance):
    """From 0.45 to 0.7 no positive is active: the host then runs the negative alone, and so it stays."""
    patched = gated(model, gate=3.0, guidance=guidance)
    positive = graphs.combine(graphs.ranged(A, 0.0, 0.45), graphs.ranged(B, 0.7, 1.0))
    with recording(model, patched) as record:
        result = graphs.ksampler_advanced(patched, positive=positive, **UNIFORM)
    alone = SURVIVORS.get(guidance, [0, 1])
    assert branches_by_step(record) == [[0, 1]] * 3 + [alone] + [[1]] * 2 + [[0, 1]] + [alone]
    assert torch.isfinite(result).all()


@pytest.mark.parametrize("percent", [0.3, 0.37, 0.41, 0.5, 0.55, 0.63, 0.7, 0.77])
@pytest.mark.parametrize("patch", ["flow", "eps"])
def test_a_sigma_exactly_on_the_end_of_a_range_is_seen_as_the_host_sees_it(model, gated, percent, patch):
    """There both conds of a switch are active, so there is nothing to merge and guidance has to stay."""
    sampled = model
    if patch == "flow":
        (sampled,) = model_advanced.ModelSamplingSD3().patch(model, 3.0)
    to_sigma = sampled.get_model_object("model_sampling").percent_to_sigma
    boundary, earlier = to_sigma(percent), to_sigma(percent / 2)
    sigmas = torch.tensor([earlier, (earlier + boundary) / 2, boundary, boundary * 0.8, 0.0])
    positive = graphs.combine(graphs.ranged(A, 0.0, percent), graphs.ranged(B, percent, 1.0))
    with recording(model, sampled) as plain:
        graphs.sampler_custom(sampled, sigmas, positive=positive)
    patched = gated(sampled, gate=1.0, guidance="uncond")
    with recording(model, patched) as record:
        graphs.sampler_custom(patched, sigmas, positive=positive)
    in_plain, in_gated = branches_by_step(plain), branches_by_step(record)
    assert in_plain[2] == [0, 0, 1]
    assert in_gated == [[0, 1], [1], [0, 0, 1], [1]]  # the third captures the new cond


# --- default conds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance", ["cond", "cached_delta"])
def test_a_default_cond_that_never_runs_does_not_keep_guidance_alive(model, gated, guidance):
    """The other cond covers the frame, so the host leaves the default out: nothing is missing without its captures."""
    node = hook_nodes.ConditioningSetDefaultAndCombine()
    (positive,) = node.set_default_and_combine(A, B)
    patched = gated(model, gate=3.0, guidance=guidance)
    with recording(model, patched) as record:
        result = tiny.sample(patched, positive=positive, steps=6)
    assert branches_by_step(record) == [[0, 1]] * 3 + [[0]] * 3
    assert distance(result, tiny.sample(reference(model, 3, guidance), positive=A, steps=6)) < EXACT
