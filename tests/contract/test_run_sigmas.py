"""Schedules made by hand, restarts, and noise levels that lie exactly on the gate."""

from __future__ import annotations

import comfy_extras.nodes_custom_sampler as custom_sampler
import graphs
import pytest
import tiny
import torch
import variants
from record import recording
from reference import reference
from tiny import distance
from variants import ATTENTIONS

pytestmark = pytest.mark.newest

GUIDANCE = ["uncond", "cond", "cached_delta", "keep"]
SURVIVORS = {"uncond": [1], "cond": [0], "cached_delta": [0], "keep": [1, 0]}
EXACT = 1e-6  # of the latent's spread; the effect of T-GATE is above 1e-3


@pytest.fixture(scope="module")
def model():
    return variants.one_level()


def branches(record):
    return [call.branches for call in record.calls]


RESTART = (14.0, 7.0, 3.0, 1.5, 6.0, 3.0, 1.5, 0.5, 0.0)
# uni_pc solves for the noise levels it has met: twice the same is singular, or not, as this machine's rounding has it.
RESTART_ON_OTHER_LEVELS = (14.0, 7.0, 3.0, 1.5, 6.0, 2.7, 1.3, 0.5, 0.0)
SCHEDULES = [
    pytest.param((10.0, 4.0, 2.5, 0.7, 0.3, 0.0), id="uneven"),
    pytest.param((9.0, 5.0, 3.0, 2.0, 1.0, 0.4), id="ends above 0"),
    pytest.param((40.0, 20.0, 5.0, 1.0, 0.2, 0.0), id="starts above sigma_max"),
    pytest.param(RESTART, id="restart"),
    pytest.param((8.0, 4.0, 2.0, 4.0, 2.0, 4.0, 2.0, 0.0), id="two restarts over the same noise levels"),
    pytest.param((0.1, 0.5, 1.0, 3.0, 8.0, 14.0), id="rising (unsampling)"),
]


@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize("gate", [1, 4])
@pytest.mark.parametrize("sigmas", SCHEDULES)
def test_hand_made_schedules_count_steps_in_their_order(model, gated, sigmas, gate, guidance):
    patched = gated(model, gate=float(gate), guidance=guidance)
    schedule = graphs.manual_sigmas(*sigmas)
    after = len(sigmas) - 1 - gate
    with recording(model, patched) as record:
        result = graphs.sampler_custom(patched, schedule)
    assert record.per_call("cross_attention") == [ATTENTIONS] * gate + [0] * after
    assert branches(record) == [[1, 0]] * gate + [SURVIVORS[guidance]] * after
    assert distance(result, graphs.sampler_custom(reference(model, gate, guidance), schedule)) < EXACT


def test_flipped_sigmas_are_a_schedule_too(model, gated):
    schedule = custom_sampler.FlipSigmas.execute(graphs.basic_scheduler(model)).args[0]
    patched = gated(model, gate=3.0)
    with recording(model, patched) as record:
        result = graphs.sampler_custom(patched, schedule)
    assert record.per_call("cross_attention") == [ATTENTIONS] * 3 + [0] * 5
    assert distance(result, graphs.sampler_custom(reference(model, 3), schedule)) < EXACT


@pytest.mark.parametrize("sigmas", [(5.0, 5.0, 2.0, 2.0, 1.0, 0.0), (3.0, 3.0, 3.0, 3.0), (2.0, 0.0), (1.0,), ()])
def test_repeated_and_tiny_schedules_neither_fail_nor_lose_the_text(model, gated, sigmas):
    """A noise level that repeats may be taken for one step; the first gated call is then computed and captured."""
    patched = gated(model, gate=2.0)
    schedule = graphs.manual_sigmas(*sigmas)
    with recording(model, patched) as record:
        result = graphs.sampler_custom(patched, schedule)
    assert torch.isfinite(result).all()
    assert len(record.calls) == max(0, len(sigmas) - 1)
    is_full = [call.branches == [1, 0] and call.cross_attention == ATTENTIONS for call in record.calls]
    is_gated = [call.branches == [1] and call.cross_attention == 0 for call in record.calls]
    assert all(full != gated for full, gated in zip(is_full, is_gated, strict=True))
    assert is_full == sorted(is_full, reverse=True)


@pytest.mark.parametrize(
    "sampler", ["heun", "heunpp2", "dpm_2", "dpmpp_2s_ancestral", "dpmpp_sde", "seeds_3", "uni_pc"]
)
@pytest.mark.parametrize("guidance", ["uncond", "cached_delta"])
def test_a_restart_is_not_gated_before_its_step(model, gated, sampler, guidance):
    """Samplers with several evaluations a step meet the noise levels of a restart early: they must not count them."""
    gate = 5  # the first gated step lies behind the restart
    patched = gated(model, gate=float(gate), guidance=guidance)
    calls_at_step_end = []
    with recording(model, patched) as record:
        sigmas = graphs.manual_sigmas(*(RESTART_ON_OTHER_LEVELS if sampler == "uni_pc" else RESTART))
        guider = custom_sampler.CFGGuider.execute(patched, tiny.text(1), tiny.text(2), 5.0).args[0]
        guider.sample(
            tiny.noise(0),
            torch.zeros(1, 4, 8, 8),
            custom_sampler.KSamplerSelect.execute(sampler).args[0],
            sigmas,
            callback=lambda *_: calls_at_step_end.append(len(record.calls)),
            disable_pbar=True,
            seed=0,
        )
    look_ahead = 2 if sampler == "heunpp2" else 1
    surely_before_the_gate = record.calls[: calls_at_step_end[gate - look_ahead] - 1]
    assert surely_before_the_gate
    assert {tuple(call.branches) for call in surely_before_the_gate} == {(1, 0)}
    assert {call.cross_attention for call in surely_before_the_gate} == {ATTENTIONS}
    assert record.calls[-1].branches == SURVIVORS[guidance]


@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize("gate", [3, 5])
@pytest.mark.parametrize("sampler", ["euler", "uni_pc", "uni_pc_bh2", "dpmpp_2m"])
def test_a_sigma_exactly_on_the_gate_switches_everything_at_once(model, gated, sampler, gate, guidance):
    """sgm_uniform puts a step exactly onto the gate's noise level: attention and guidance must agree about it."""
    scheduled = 9 if sampler.startswith("uni_pc") else 8  # of these the host drops the last but one
    patched = gated(model, gate=gate / scheduled, gate_unit="percent of schedule", guidance=guidance)
    with recording(model, patched) as record:
        result = tiny.sample(patched, sampler=sampler, scheduler="sgm_uniform")
    gate_sigma = model.get_model_object("model_sampling").percent_to_sigma(gate / scheduled)
    assert record.sigmas[gate] == pytest.approx(gate_sigma, rel=1e-6)
    before = [call for call in record.calls if call.sigma > record.sigmas[gate] * 1.0001]
    assert len(before) == gate
    after = len(record.calls) - gate
    assert branches(record) == [[1, 0]] * gate + [SURVIVORS[guidance]] * after
    assert record.per_call("cross_attention") == [ATTENTIONS] * gate + [0] * after
    assert (
        distance(result, tiny.sample(reference(model, gate, guidance), sampler=sampler, scheduler="sgm_uniform"))
        < EXACT
    )
