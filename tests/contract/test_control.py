"""Control after the gate: it reaches the network on every step, cut to the branch that runs."""

from __future__ import annotations

import pytest
import tiny
import torch
import variants
from comfy.ldm.modules.attention import BasicTransformerBlock
from comfy.patcher_extension import WrappersMP
from controls import (
    KINDS,
    TWO_BLOCKS,
    ControlSeen,
    applied,
    applied_the_old_way,
    applied_to_one_side,
    chained,
    controlnet,
)
from record import recording
from reference import reference
from tiny import distance

pytestmark = pytest.mark.oldest

GUIDANCE = ["uncond", "cond", "cached_delta", "keep"]
SURVIVORS = {"uncond": [1], "cond": [0], "cached_delta": [0], "keep": [1, 0]}
EXACT = 1e-6  # of the latent's spread
FELT = 1e-4  # the least effect of a control
STEPS, GATE = 6, 3


@pytest.fixture(scope="module")
def model():
    return variants.one_level(**TWO_BLOCKS)


def sampled(model, patched, run):
    """One run, what of control it saw, and its calls."""
    seen, watched = ControlSeen(), patched.clone()
    watched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "watch", seen.watch)
    with recording(model, watched) as record:
        result = tiny.sample(watched, steps=STEPS, **run)
    return result, seen, record


@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("apply", [applied, applied_the_old_way])
def test_control_reaches_the_network_in_every_step(model, gated, caplog, kind, apply, guidance):
    control = kind()
    run = apply(control)
    result, seen, record = sampled(model, gated(model, gate=float(GATE), guidance=guidance), run)
    assert [call.branches for call in record.calls] == [[1, 0]] * GATE + [SURVIVORS[guidance]] * (STEPS - GATE)
    assert [call.cross_attention for call in record.calls[GATE:]] == [0] * (STEPS - GATE)
    assert seen.rows == record.batches
    assert len(set(seen.given)) == 1
    assert seen.given[0] > 0
    assert seen.taken == seen.given
    assert all(rows <= {1, batch} for rows, batch in zip(seen.control_rows, seen.rows, strict=True))
    assert "could not be applied" not in caplog.text
    assert distance(result, tiny.sample(reference(model, GATE, guidance), steps=STEPS, **run)) < EXACT


@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize("kind", KINDS)
def test_control_that_ends_at_the_gate_is_missed(model, gated, kind, guidance):
    """What control does after the gate is in the result: the same run without it there differs."""
    patched = gated(model, gate=float(GATE), guidance=guidance)
    throughout, seen, _ = sampled(model, patched, applied(kind()))
    until_the_gate, seen_until, _ = sampled(model, patched, applied(kind(), end=0.4))
    assert all(seen.given)
    assert 0 < sum(given > 0 for given in seen_until.given) < STEPS
    assert distance(throughout, until_the_gate) > FELT
    without, seen_without, _ = sampled(model, patched, {})
    assert not any(seen_without.given)
    assert distance(throughout, without) > FELT


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_control_that_begins_behind_the_gate_begins(model, gated, guidance):
    patched = gated(model, gate=2.0, guidance=guidance)
    run = applied(controlnet(), start=0.5)
    result, seen, _ = sampled(model, patched, run)
    first = next(step for step, given in enumerate(seen.given) if given)
    assert first > 2
    assert all(seen.taken[first:])
    assert distance(result, tiny.sample(reference(model, 2, guidance), steps=STEPS, **run)) < EXACT


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_control_of_one_branch_follows_that_branch(model, gated, guidance):
    run = applied_to_one_side(controlnet())
    patched = gated(model, gate=float(GATE), guidance=guidance)
    result, seen, record = sampled(model, patched, run)
    has_control = [given > 0 for given in seen.given]
    assert has_control == [call.branches == [0] for call in record.calls]
    assert any(has_control[-2:]) == (guidance != "uncond")
    assert distance(result, tiny.sample(reference(model, GATE, guidance), steps=STEPS, **run)) < EXACT


@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize("kind", KINDS)
def test_two_controls_in_a_row_both_arrive(model, gated, kind, guidance):
    patched = gated(model, gate=float(GATE), guidance=guidance)
    run = chained(kind())
    result, seen, _ = sampled(model, patched, run)
    assert seen.taken == seen.given
    assert all(seen.given)
    assert distance(result, tiny.sample(reference(model, GATE, guidance), steps=STEPS, **run)) < EXACT
    assert distance(result, sampled(model, patched, applied(kind()))[0]) > FELT
    assert distance(result, sampled(model, patched, applied(controlnet(21), picture=1))[0]) > FELT


@pytest.mark.parametrize("guidance", ["uncond", "cached_delta"])
def test_the_control_network_itself_is_never_gated(model, gated, guidance):
    """It has attentions of its own, under the host's same names; all of them run, on the rows of the branch."""
    control = controlnet()
    ran = []
    for module in control.control_model.modules():
        if isinstance(module, BasicTransformerBlock):
            module.attn2.to_q.register_forward_hook(lambda _module, inputs, _output: ran.append(inputs[0].shape[0]))
    sampled(model, gated(model, gate=float(GATE), guidance=guidance), applied(control))
    attentions = 3
    assert ran == [2] * GATE * attentions + [1] * (STEPS - GATE) * attentions


@pytest.mark.parametrize("kind", KINDS)
def test_control_and_a_gate_beyond_the_run(model, gated, kind):
    run = applied(kind())
    patched = gated(model, gate=float(STEPS), sp_interval=2)
    assert torch.equal(tiny.sample(patched, steps=STEPS, **run), tiny.sample(model, steps=STEPS, **run))
