"""Refreshed steps on real networks: against the reference, beside DeepCache and other nodes, in either order."""

from __future__ import annotations

import pytest
import tiny
import torch
from block_record import block_recording
from families import FAMILIES
from record import recording
from reference import reference
from tiny import distance

from tgate_core.engine.steps import StepTracker

pytestmark = pytest.mark.newest

EXACT = 1e-5  # of the latent's spread
ROUNDING = 3e-5
STEPS = 12
GATE, REFRESHED = 3, (4, 7)
GUIDANCE = ["uncond", "cond", "cond_mean", "cached_delta", "keep"]
SURVIVORS = {"uncond": [1], "cond": [0], "cond_mean": [0], "cached_delta": [0], "keep": [1, 0]}
GROWING = {"gate": float(GATE), "refresh": "growing gaps", "refresh_gap": 2}
PER_CALL = 7  # cross-attentions of the tiny model


@pytest.fixture(scope="module")
def model():
    return tiny.sd15()


@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize("intervals", [{}, {"sp_interval": 2, "fi_interval": 3, "warm_up": 1}], ids=["cross", "both"])
def test_refreshed_steps_are_guided_and_captured_anew(model, gated, guidance, intervals):
    settings = {"sp_interval": 1, "warm_up": 0, **intervals}
    patched = gated(model, **GROWING, **settings, guidance=guidance)
    with recording(model, patched) as record:
        result = tiny.sample(patched, steps=STEPS)
    is_guided = [step < GATE or step in REFRESHED for step in range(STEPS)]
    assert [call.branches for call in record.calls] == [[1, 0] if full else SURVIVORS[guidance] for full in is_guided]
    assert record.per_call("cross_attention") == [PER_CALL * full for full in is_guided]
    expected = tiny.sample(reference(model, GATE, guidance, refreshed=REFRESHED, **settings), steps=STEPS)
    assert distance(result, expected) < EXACT


@pytest.mark.parametrize("sampler", ["heun", "dpm_2_ancestral", "dpmpp_sde"])
def test_each_evaluation_of_a_step_is_refreshed(model, gated, sampler):
    patched = gated(model, **GROWING, guidance="cached_delta", self_attention=False)
    with recording(model, patched) as record:
        tiny.sample(patched, steps=STEPS, sampler=sampler)
    tracker = StepTracker(record.sigmas)
    evaluations = [(tracker.step_of(call.sigma), len(call.branches)) for call in record.calls]
    assert {step for step, _ in evaluations} == set(range(STEPS))
    assert len(evaluations) > STEPS
    # At the gate step itself, evaluations that the step before did not have are guided as well.
    guided = [branches == 2 for step, branches in evaluations if step > GATE]
    assert guided == [step in REFRESHED for step, _ in evaluations if step > GATE]


@pytest.mark.parametrize("family", [one for one in FAMILIES if one.is_available], ids=lambda family: family.name)
def test_every_family_is_refreshed(family, gated):
    model = family.make()
    patched = gated(model, **GROWING, sp_interval=1, warm_up=0, fi_interval=2, guidance="cached_delta")
    schedule = {"gate": GATE, "fi_interval": 2, "guidance": "cached_delta", "refreshed": REFRESHED}
    expected = family.sample(family.reference(model, **schedule), steps=STEPS)
    assert distance(family.sample(patched, steps=STEPS), expected) < ROUNDING


@pytest.mark.parametrize("order", ["DeepCache first", "T-GATE first"])
@pytest.mark.parametrize("guidance", ["uncond", "cached_delta", "keep"])
def test_beside_deep_cache_refreshed_steps_run_all_blocks(model, gated, deep, order, guidance):
    settings = {**GROWING, "self_attention": False, "guidance": guidance}
    is_deep_first = order == "DeepCache first"
    patched = gated(deep(model), **settings) if is_deep_first else deep(gated(model, **settings))
    with block_recording(model, patched) as record:
        result = tiny.sample(patched, steps=STEPS)
    assert record.depths == "FsFFFsFFsFss"
    expected = tiny.sample(reference(model, GATE, guidance, refreshed=REFRESHED, interval=3), steps=STEPS)
    assert distance(result, expected) < EXACT


@pytest.mark.parametrize("tolerance", [0.0, 2.0])
def test_the_error_decides_beside_deep_cache(model, gated, deep, tolerance):
    settings = {"gate": float(GATE), "refresh": "by error", "refresh_tolerance": tolerance, "self_attention": False}
    patched = deep(gated(model, **settings, guidance="cached_delta"))
    with block_recording(model, patched) as record:
        tiny.sample(patched, steps=STEPS)
    is_guided = [len(call.branches) == 2 for call in record.calls]
    refreshed = [step for step in range(GATE, STEPS) if is_guided[step]]
    assert refreshed[0] == 4
    assert (len(refreshed) == 6) == (tolerance == 0)
    assert {record.depths[step] for step in refreshed} == {"F"}


def test_a_batch_takes_one_decision_and_the_same_run_takes_it_again(model, gated):
    settings = {"gate": 2.0, "refresh": "by error", "refresh_tolerance": 0.3, "guidance": "cached_delta"}
    patched = gated(model, **settings)
    run = {"steps": STEPS, "latent": torch.zeros(3, 4, 8, 8)}
    with recording(model, patched) as record:
        results = [tiny.sample(patched, **run) for _ in "ab"]
    assert torch.equal(*results)
    assert record.batches[:STEPS] == record.batches[STEPS:]
    assert set(record.batches) == {1, 2}


@pytest.mark.parametrize("refresh", ["growing gaps", "by error"])
def test_nothing_of_a_run_is_left_to_the_next(model, gated, refresh):
    """Another prompt, and a run that ends half-way, come between."""
    patched = gated(model, gate=2.0, refresh=refresh, guidance="cached_delta", self_attention=False)
    first = tiny.sample(patched, steps=STEPS)
    tiny.sample(patched, steps=STEPS, positive=tiny.text(9))
    tiny.sample(patched, steps=STEPS, last_step=STEPS // 2)
    assert torch.equal(first, tiny.sample(patched, steps=STEPS))


def test_the_report_names_the_refreshed_steps(model, pack, gated):
    patched = gated(model, **GROWING, guidance="cached_delta")
    latent = tiny.sample(patched, steps=STEPS)
    text = pack.nodes["TGATEReport"].execute(model=patched, latent={"samples": latent}).args[1]
    assert "Refreshed: at 4, 7\n" in text
