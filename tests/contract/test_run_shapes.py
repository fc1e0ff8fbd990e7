"""Runs as people build them: img2img, second passes, split samplers, other guiders."""

from __future__ import annotations

import logging

import comfy_extras.nodes_custom_sampler as custom_sampler
import comfy_extras.nodes_perpneg as perpneg
import graphs
import pytest
import tiny
import torch
import variants
from record import recording
from reference import reference
from tiny import distance
from variants import ATTENTIONS

import nodes as host_nodes

pytestmark = pytest.mark.newest

GUIDANCE = ["uncond", "cond", "cached_delta", "keep"]
SURVIVORS = {"uncond": [1], "cond": [0], "cached_delta": [0], "keep": [1, 0]}
EXACT = 1e-6  # of the latent's spread; the effect of T-GATE is above 1e-3
DENOISE = [0.2, 0.4, 0.5, 0.75, 0.9]


@pytest.fixture(scope="module")
def model():
    return variants.one_level()


def branches(record):
    return [call.branches for call in record.calls]


# --- img2img and the second pass --------------------------------------------------------------------------------------


@pytest.mark.parametrize("denoise", DENOISE)
@pytest.mark.parametrize("guidance", GUIDANCE)
def test_img2img_is_gated_within_its_own_steps(model, gated, denoise, guidance):
    picture = tiny.noise(7)
    patched = gated(model, gate=0.5, gate_unit="fraction of steps", guidance=guidance)
    with recording(model, patched) as record:
        result = tiny.sample(patched, denoise=denoise, latent=picture)
    assert branches(record) == [[1, 0]] * 4 + [SURVIVORS[guidance]] * 4
    assert record.per_call("cross_attention") == [ATTENTIONS] * 4 + [0] * 4
    assert distance(result, tiny.sample(reference(model, 4, guidance), denoise=denoise, latent=picture)) < EXACT


@pytest.mark.parametrize("denoise", DENOISE)
def test_img2img_by_percent_gates_where_txt2img_does(model, gated, denoise):
    """A gate of the whole schedule: the steps of an img2img below that noise level are gated, however few are left."""
    patched = gated(model, gate=0.5, gate_unit="percent of schedule")
    gate_sigma = model.get_model_object("model_sampling").percent_to_sigma(0.5)
    with recording(model, patched) as record:
        tiny.sample(patched, denoise=denoise, latent=tiny.noise(7))
    before = max(1, sum(call.sigma > gate_sigma for call in record.calls))  # the first call always captures
    assert before < 8
    assert branches(record) == [[1, 0]] * before + [[1]] * (8 - before)
    assert record.per_call("cross_attention") == [ATTENTIONS] * before + [0] * (8 - before)


@pytest.mark.parametrize("denoise", DENOISE)
@pytest.mark.parametrize("guidance", ["uncond", "cached_delta"])
def test_a_hires_second_pass_starts_anew(model, gated, denoise, guidance):
    """Text to image, a latent upscale, a second pass: one patched MODEL, two runs, two sizes."""
    patched = gated(model, guidance=guidance)
    first = tiny.sample(patched)
    assert distance(first, tiny.sample(reference(model, 4, guidance))) < EXACT
    (large,) = host_nodes.LatentUpscale().upscale({"samples": first}, "nearest-exact", 96, 80, "disabled")
    second = tiny.sample(patched, denoise=denoise, latent=large["samples"], steps=6)
    assert second.shape == (1, 4, 10, 12)
    assert (
        distance(second, tiny.sample(reference(model, 4, guidance), denoise=denoise, latent=large["samples"], steps=6))
        < EXACT
    )


# --- split samplers ---------------------------------------------------------------------------------------------------

BASE = {"end_at_step": 4, "return_with_leftover_noise": "enable"}
REFINER = {"start_at_step": 4, "add_noise": "disable"}


@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize("leftover_noise", ["enable", "disable"])
def test_base_and_refiner_are_two_runs(model, gated, guidance, leftover_noise):
    """KSamplerAdvanced twice on one MODEL; without leftover noise the host overwrites the last sigma with 0."""
    base = {**BASE, "return_with_leftover_noise": leftover_noise}
    patched = gated(model, gate=2.0, guidance=guidance)
    with recording(model, patched) as record:
        half = graphs.ksampler_advanced(patched, **base)
        assert (record.sigmas[-1] == 0.0) == (leftover_noise == "disable")
        result = graphs.ksampler_advanced(patched, graphs.latent(half), **REFINER)
    assert branches(record) == ([[1, 0]] * 2 + [SURVIVORS[guidance]] * 2) * 2
    assert record.per_call("cross_attention") == ([ATTENTIONS] * 2 + [0] * 2) * 2
    half = graphs.ksampler_advanced(reference(model, 2, guidance), **base)
    expected_result = graphs.ksampler_advanced(reference(model, 2, guidance), graphs.latent(half), **REFINER)
    assert distance(result, expected_result) < EXACT


def test_a_plain_refiner_after_a_gated_base_is_plain(model, gated):
    half = graphs.ksampler_advanced(gated(model, gate=2.0), **BASE)
    other = variants.one_level(seed=1)
    refined = graphs.ksampler_advanced(other, graphs.latent(half), **REFINER)
    assert torch.equal(refined, graphs.ksampler_advanced(variants.one_level(seed=1), graphs.latent(half), **REFINER))
    same_weights = graphs.ksampler_advanced(model, graphs.latent(half), **REFINER)
    assert torch.equal(same_weights, graphs.ksampler_advanced(variants.one_level(), graphs.latent(half), **REFINER))


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_a_split_past_the_gate_costs_one_full_call(model, gated, guidance):
    """By percent both halves know where the gate is; the second, all behind it, captures with its first call."""
    patched = gated(model, gate=0.4, gate_unit="percent of schedule", guidance=guidance)
    with recording(model, patched) as whole:
        graphs.ksampler_advanced(patched)
    gate = whole.per_call("cross_attention").count(ATTENTIONS)
    assert 0 < gate < 6
    with recording(model, patched) as split:
        half = graphs.ksampler_advanced(patched, **{**BASE, "end_at_step": 6})
        graphs.ksampler_advanced(patched, graphs.latent(half), **{**REFINER, "start_at_step": 6})
    assert split.per_call("cross_attention") == [*whole.per_call("cross_attention")[:6], ATTENTIONS, 0]
    assert branches(split) == [*branches(whole)[:6], [1, 0], SURVIVORS[guidance]]


# --- custom samplers and guiders --------------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_sampler_custom_and_cfg_guider_are_the_ksampler(model, gated, guidance):
    patched = gated(model, guidance=guidance)
    sigmas = graphs.basic_scheduler(patched)
    expected = graphs.ksampler_advanced(patched)
    assert torch.equal(graphs.sampler_custom(patched, sigmas), expected)
    guider = custom_sampler.CFGGuider.execute(patched, tiny.text(1), tiny.text(2), 5.0).args[0]
    assert torch.equal(graphs.sampler_custom_advanced(guider, sigmas), expected)
    assert torch.equal(graphs.sampler_custom_advanced(guider, sigmas), expected)  # one guider, sampled again


def basic(model):
    return custom_sampler.BasicGuider.execute(model, tiny.text(1)).args[0]


def cfg_1(model):
    return custom_sampler.CFGGuider.execute(model, tiny.text(1), tiny.text(2), 1.0).args[0]


def dual_cfg(model, style="regular", cfg_conds=3.0, cfg_cond2_negative=2.0):
    conds = tiny.text(1), tiny.text(3), tiny.text(2)
    return custom_sampler.DualCFGGuider.execute(model, *conds, cfg_conds, cfg_cond2_negative, style).args[0]


def perp_neg(model, cfg=5.0, neg_scale=1.0):
    conds = tiny.text(1), tiny.text(2), tiny.text(3)
    return perpneg.PerpNegGuider.execute(model, *conds, cfg, neg_scale).args[0]


GUIDERS = [
    pytest.param(basic, 1, False, id="BasicGuider"),
    pytest.param(cfg_1, 1, False, id="CFGGuider, cfg 1"),
    pytest.param(dual_cfg, 3, True, id="DualCFGGuider"),
    pytest.param(lambda m: dual_cfg(m, "nested"), 3, True, id="DualCFGGuider nested"),
    pytest.param(lambda m: dual_cfg(m, cfg_cond2_negative=1.0), 2, True, id="DualCFGGuider without negative"),
    pytest.param(lambda m: dual_cfg(m, "regular", 1.0, 1.0), 1, False, id="DualCFGGuider, cond 1 alone"),
    pytest.param(perp_neg, 3, True, id="PerpNegGuider"),
    pytest.param(lambda m: perp_neg(m, neg_scale=0.0), 2, True, id="PerpNegGuider without negative"),
    pytest.param(lambda m: perp_neg(m, 1.0, 0.0), 1, False, id="PerpNegGuider, positive alone"),
]


@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize(("guider", "conds", "has_guidance_to_keep"), GUIDERS)
def test_other_guiders_keep_all_their_branches(model, gated, caplog, guider, conds, has_guidance_to_keep, guidance):
    caplog.set_level(logging.INFO)
    patched = gated(model, guidance=guidance)
    sigmas = graphs.basic_scheduler(patched)
    with recording(model, patched) as record:
        result = graphs.sampler_custom_advanced(guider(patched), sigmas)
    assert record.batches == [conds] * 8
    assert record.per_call("cross_attention") == [ATTENTIONS] * 4 + [0] * 4
    assert torch.isfinite(result).all()
    assert distance(result, graphs.sampler_custom_advanced(guider(reference(model, 4, "keep")), sigmas)) < EXACT
    notes = caplog.text.count("guidance kept: the guider asks for other branches")
    assert notes == (1 if has_guidance_to_keep and guidance != "keep" else 0)
