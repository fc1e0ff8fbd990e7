"""Guiders of other packs: what they hold is theirs to choose, and may change from step to step."""

from __future__ import annotations

import logging
from decimal import Decimal

import comfy.samplers
import comfy_extras.nodes_custom_sampler as custom_sampler
import graphs
import numpy as np
import pytest
import tiny
import torch
import variants
from joint_families import JOINT_FAMILIES
from record import recording
from reference import reference

STEPS = 8
GATE = 4
EXACT = 1e-6
GUIDANCE = ["uncond", "cond", "cached_delta", "keep"]


class ScheduledGuider(comfy.samplers.CFGGuider):
    """A scale for each step, as a list of floats; `cfg` may be whatever else a pack puts there."""

    scales = (5.0,) * STEPS

    def predict_noise(self, x, timestep, model_options=None, seed=None):
        """As the host's, with the scale of this step."""
        steps = model_options["transformer_options"]["sample_sigmas"][:-1]
        scale = self.scales[int((steps - timestep.flatten()[0]).abs().argmin())]
        conds = self.conds.get("negative"), self.conds.get("positive")
        return comfy.samplers.sampling_function(
            self.inner_model, x, timestep, *conds, scale, model_options=model_options, seed=seed
        )


def guider(model, cfg, scales=None):
    made = ScheduledGuider(model)
    made.set_conds(tiny.text(1), tiny.text(2))
    made.scales = made.scales if scales is None else scales
    made.set_cfg(cfg)
    return made


def sample(model, cfg, scales=None):
    return graphs.sampler_custom_advanced(guider(model, cfg, scales), graphs.basic_scheduler(model, steps=STEPS))


@pytest.fixture(scope="module")
def model():
    return variants.one_level()


NUMBERS = {
    "a list of floats": [5.0] * STEPS,
    "a list that begins with 1": [1.0] + [5.0] * (STEPS - 1),
    "a tuple of integers": (5,) * STEPS,
    "a nested list": [[5.0, 1.0], [1.0, 5.0]],
    "a NumPy number": np.float32(5.0),
    "a NumPy array": np.full(STEPS, 5.0),
    "a list of NumPy numbers": [np.float64(5.0)] * STEPS,
    "a tensor": torch.tensor(5.0),
    "a tensor of steps": torch.full((STEPS,), 5.0),
    "a parameter": torch.nn.Parameter(torch.tensor(5.0)),
    "a decimal": Decimal(5),
    "not a number": float("nan"),
    "infinite": float("inf"),
    "an enormous integer": 10**400,
    "a complex number": 5j,
    "nothing": None,
    "an empty list": [],
    "a list with nothing in it": [5.0, None],
    "lists of other lengths": [[5.0], [5.0, 5.0]],
    "text": "5.0",
    "a function": lambda step: 5.0,
    "a generator": (5.0 for _ in range(STEPS)),
    "a dictionary": {0: 5.0},
    "any object": object(),
}
ONES = {
    "one": 1,
    "a list of ones": [1.0] * STEPS,
    "a NumPy one": np.float32(1.0),
    "an array of ones": np.ones(STEPS),
    "a tensor of one": torch.tensor(1.0),
    "a tensor of ones in half precision": torch.ones(STEPS, dtype=torch.float16),
}


@pytest.mark.parametrize("cfg", NUMBERS.values(), ids=NUMBERS)
def test_a_scale_of_any_type_is_guidance(model, gated, caplog, cfg):
    """The gate is put where it is put for a number, and nothing is said of a run without guidance."""
    caplog.set_level(logging.INFO)
    patched = gated(model)
    assert torch.equal(sample(patched, cfg), sample(patched, 5.0))
    assert "no second pass" not in caplog.text


@pytest.mark.parametrize("cfg", ONES.values(), ids=ONES)
def test_a_scale_of_one_throughout_is_no_guidance(model, gated, caplog, cfg):
    caplog.set_level(logging.INFO)
    sample(gated(model), cfg, scales=(1.0,) * STEPS)
    assert caplog.text.count("no second pass") == 1


@pytest.mark.parametrize("cfg", [[5.0] * 25, None], ids=["a list of floats", "nothing"])
def test_presets_take_the_scale_of_each_step_for_guidance(model, pack, cfg):
    """Without guidance a preset gates like those of few steps, after the first."""
    patched = pack.nodes["TGATEApply"].execute(model=model).args[0]
    scales, sigmas = (5.0,) * 25, graphs.basic_scheduler(model, steps=25)
    with recording(model, patched) as record:
        graphs.sampler_custom_advanced(guider(patched, cfg, scales), sigmas)
    with recording(model, patched) as expected:
        graphs.sampler_custom_advanced(guider(patched, 5.0, scales), sigmas)
    assert record.calls == expected.calls
    assert record.batches[:4] == [2] * 4


WHEN_GUIDED = {
    "from the start to the middle": [5.0] * 4 + [1.0] * 4,
    "up to the pass that is captured": [5.0] * 3 + [1.0] * 5,
    "after the gate alone": [1.0] * 5 + [5.0] * 3,
    "every other step": [5.0, 1.0] * 4,
    "all but the first": [1.0] + [5.0] * 7,
    "changing": [9.0, 7.0, 5.0, 4.0, 3.0, 2.0, 1.5, 1.2],
}


@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize("scales", WHEN_GUIDED.values(), ids=WHEN_GUIDED)
def test_guidance_in_some_steps_alone(model, gated, guidance, scales):
    """A step with one branch has no guidance to drop; one that has both is gated like any other."""
    patched = gated(model, gate=float(GATE), guidance=guidance)
    with recording(model, patched) as record:
        result = sample(patched, scales, scales)
    assert torch.isfinite(result).all()
    assert all(call.branches == [0] for call, scale in zip(record.calls, scales, strict=True) if scale == 1.0)
    assert all(call.branches == [1, 0] for call, scale in zip(record.calls[:GATE], scales, strict=False) if scale > 1.0)
    if guidance == "keep":
        expected = sample(reference(model, GATE, "keep"), scales, scales)
        assert tiny.distance(result, expected) < EXACT


def test_a_branch_without_conds_is_no_guidance(model, gated, caplog):
    caplog.set_level(logging.INFO)
    patched = gated(model)
    alone = comfy.samplers.CFGGuider(patched)
    alone.set_conds(tiny.text(1), [])
    alone.set_cfg(5.0)
    graphs.sampler_custom_advanced(alone, graphs.basic_scheduler(patched, steps=STEPS))
    assert caplog.text.count("no second pass") == 1


def two_models_guider(model, other, text, cfg=5.0):
    """The host's DualModelGuider: cond by `model`, uncond by `other`; older hosts have none."""
    node = custom_sampler.DualModelGuider
    return node.execute(model, text(1), cfg, model_negative=other, negative=text(2)).args[0]


@pytest.mark.newest
@pytest.mark.parametrize("is_gated", [False, True], ids=["other as it is", "other gated too"])
@pytest.mark.parametrize("name", ["UNet", "Z-Image", "CogVideoX"])
def test_two_models_one_for_each_branch(pack, counts_of, name, is_gated):
    """As in the host's blueprint of Ideogram 4: steps are predicted, and what is said of guidance is true."""
    family = next((one for one in JOINT_FAMILIES if one.name == name), None)
    make, text = (variants.one_level, tiny.text) if family is None else (family.make, family.text)
    start = graphs.latent(None if family is None else family.empty_latent())
    model, other = make(), make()
    gated, gated_other = (pack.nodes["TGATEApply"].execute(model=one).args[0] for one in (model, other))

    def sampled(model, other, cfg=5.0):
        sigmas = graphs.basic_scheduler(model, steps=25)
        return graphs.sampler_custom_advanced(two_models_guider(model, other, text, cfg), sigmas, start=start)

    result, guidance = sampled(gated, gated_other if is_gated else other), pack.core("gate.guidance")
    assert counts_of(gated).skipped_passes > 2 * 25 // 3
    assert guidance.NO_GUIDANCE not in counts_of(gated).notes
    assert not torch.equal(result, sampled(model, other))
    sampled(gated, other, cfg=1.0)
    assert guidance.BRANCHES_APART not in counts_of(gated).notes


@pytest.mark.newest
def test_branches_that_are_asked_for_apart_are_kept_and_that_is_said(gated, counts_of, pack):
    model, other = variants.one_level(), variants.one_level()
    patched = gated(model, guidance="cached_delta", cross_attention=False)

    def sampled(model):
        sigmas = graphs.basic_scheduler(model, steps=STEPS)
        return graphs.sampler_custom_advanced(two_models_guider(model, other, tiny.text), sigmas)

    assert torch.equal(sampled(patched), sampled(model))
    assert pack.core("gate.guidance").BRANCHES_APART in counts_of(patched).notes


@pytest.mark.parametrize("sampler", ["euler_cfg_pp", "res_multistep_cfg_pp"])
def test_samplers_that_look_at_both_branches_are_guided_at_cfg_1(model, pack, counts_of, sampler):
    patched = pack.nodes["TGATEApply"].execute(model=model).args[0]
    tiny.sample(patched, steps=25, cfg=1.0, sampler=sampler)
    counts = counts_of(patched)
    assert counts.skipped_passes == 10
    assert counts.guided_passes == 15
    assert counts.notes == []
