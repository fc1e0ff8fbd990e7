"""Other nodes that act in a part of the run only: step caches, shrinking, guidance and auxiliary passes by range."""

from __future__ import annotations

import comfy.samplers
import pytest
import tiny
import torch
from host_nodes import ONE_LEVEL, host_node
from other_nodes import SHRINK
from record import recording

ORDERS = ["ours first", "ours last"]
CACHES = ["EasyCache", "LazyCache"]
STEPS = 8


@pytest.fixture(scope="module")
def model():
    return tiny.sd15(**ONE_LEVEL)


@pytest.fixture(scope="module")
def two_levels():
    return tiny.sd15()


def beside(gated, model, apply, order, **settings):
    return apply(gated(model, **settings)) if order == "ours first" else gated(apply(model), **settings)


def share_of(model, step, steps=STEPS):
    """The share of the whole schedule that has passed half-way between two steps of a run with the normal scheduler."""
    sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", steps)
    wanted = float(sigmas[step - 1] * sigmas[step]) ** 0.5
    return min((n / 1000 for n in range(1001)), key=lambda share: abs(sampling.percent_to_sigma(share) - wanted))


def step_cache(name, end=1.0):
    """Skips every step it may, from 10 % of the schedule on: the threshold is far above any change."""
    return host_node(
        "nodes_easycache", f"{name}Node", reuse_threshold=3.0, start_percent=0.1, end_percent=end, verbose=False
    )


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", CACHES)
def test_step_cache_off_is_bit_equal(model, gated, name, order):
    cached = step_cache(name)
    with recording(model, alone := cached(model)) as record:
        expected = tiny.sample(alone, steps=STEPS)
    assert sum(call.cross_attention > 0 for call in record.calls) < STEPS
    assert torch.equal(tiny.sample(beside(gated, model, cached, order, gate=100.0), steps=STEPS), expected)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("guidance", ["uncond", "cached_delta", "keep"])
@pytest.mark.parametrize("name", CACHES)
def test_step_cache_over_the_gate(model, gated, name, guidance, order):
    """The cache skips the step that T-GATE captures in: what is missing is captured later, and never needed."""
    settings = {"gate": 5.0, "sp_interval": 2, "guidance": guidance}
    patched = beside(gated, model, step_cache(name), order, **settings)
    result = tiny.sample(patched, steps=STEPS)
    assert torch.isfinite(result).all()
    assert torch.equal(tiny.sample(patched, steps=STEPS), result)
    assert not torch.allclose(result, tiny.sample(gated(model, **settings), steps=STEPS), rtol=1e-2)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("guidance", ["uncond", "cached_delta"])
@pytest.mark.parametrize("name", CACHES)
def test_step_cache_that_ends_before_the_gate(model, gated, name, guidance, order):
    """From then on T-GATE captures, drops a branch and skips cross-attention as if it were alone."""
    end = share_of(model, 4)
    settings = {"gate": 6.0, "guidance": guidance}
    patched = beside(gated, model, step_cache(name, end), order, **settings)
    with recording(model, patched) as record:
        tiny.sample(patched, steps=STEPS)
    late = [call for call in record.calls if call.sigma <= record.sigmas[4] * (1 + 1e-5)]
    assert [(len(call.branches), call.cross_attention) for call in late] == [(2, 4), (2, 4), (1, 0), (1, 0)]


def shrinking_until(step, model):
    return host_node(
        "nodes_model_downscale",
        "PatchModelAddDownscale",
        block_number=1,
        downscale_factor=2.0,
        start_percent=0.0,
        end_percent=share_of(model, step, 6),
        **SHRINK,
    )


@pytest.mark.parametrize("order", ORDERS)
def test_shrinking_that_ends_at_the_gate_moves_the_gate(two_levels, gated, order):
    """The captures have another size than what comes after: the first gated step is run in full and captured anew."""
    shrink = shrinking_until(3, two_levels)
    patched = beside(gated, two_levels, shrink, order, gate=3.0, guidance="uncond")
    result = tiny.sample(patched, steps=6)
    later = tiny.sample(beside(gated, two_levels, shrink, order, gate=4.0, guidance="uncond"), steps=6)
    assert torch.equal(result, later)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("guidance", ["cached_delta", "keep"])
def test_shrinking_that_ends_at_the_gate_keeps_the_sites_that_fit(two_levels, gated, guidance, order):
    """The one block before the shrinking, and one that gets its size back, are skipped at once; the others catch up."""
    patched = beside(gated, two_levels, shrinking_until(3, two_levels), order, gate=3.0, guidance=guidance)
    with recording(two_levels, patched) as record:
        result = tiny.sample(patched, steps=6)
    assert torch.isfinite(result).all()
    assert 0 < record.per_call("cross_attention")[3] < 7
    assert record.per_call("cross_attention")[4:] == [0, 0]


def override(model, first, last, cfg):
    return host_node(
        "nodes_custom_sampler",
        "CFGOverride",
        cfg=cfg,
        start_percent=0.0 if first == 0 else share_of(model, first),
        end_percent=1.0 if last == STEPS else share_of(model, last),
    )


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("guidance", ["uncond", "cond", "cached_delta"])
@pytest.mark.parametrize(
    ("first", "last", "batches"),
    [
        pytest.param(0, 4, [1, 1, 1, 1, 2, 1, 1, 1], id="cfg 1 up to the gate"),
        pytest.param(4, STEPS, [2, 2, 2, 2, 1, 1, 1, 1], id="cfg 1 from the gate on"),
        pytest.param(2, 6, [2, 2, 1, 1, 1, 1, 2, 1], id="cfg 1 across the gate"),
    ],
)
def test_guidance_that_is_off_in_a_range(model, gated, first, last, batches, guidance, order):
    """A step that was not guided cannot stand in for the last planning step: a guided one comes before the gate."""
    apply = override(model, first, last, 1.0)
    patched = beside(gated, model, apply, order, gate=4.0, guidance=guidance)
    with recording(model, patched) as record:
        result = tiny.sample(patched, steps=STEPS)
    assert torch.isfinite(result).all()
    assert record.batches == batches
    assert record.calls[-1].cross_attention == 0
    off = beside(gated, model, apply, order, gate=100.0)
    assert torch.equal(tiny.sample(off, steps=STEPS), tiny.sample(apply(model), steps=STEPS))


def late_auxiliary(model, step, steps):
    """A node that compares cond with cond, perturbed, from a step on."""
    return host_node(
        "nodes_slg",
        "SkipLayerGuidanceDiT",
        scale=2.0,
        rescaling_scale=0.0,
        double_layers="0",
        single_layers="0",
        start_percent=share_of(model, step, steps),
        end_percent=1.0,
    )


@pytest.mark.parametrize("order", ORDERS)
def test_an_auxiliary_pass_that_starts_late_meets_a_real_prediction(model, gated, order):
    """It compares cond, as it was predicted, with cond, perturbed: from its first step on, cond has to have run."""
    patched = beside(gated, model, late_auxiliary(model, 5, STEPS), order, gate=3.0, guidance="uncond")
    with recording(model, patched) as record:
        tiny.sample(patched, steps=STEPS)
    by_step = {sigma: [call.branches for call in record.calls if call.sigma == sigma] for sigma in record.sigmas[:-1]}
    with_auxiliary = [branches for branches in by_step.values() if len(branches) > 1]
    assert len(with_auxiliary) == 3
    for *_, main, _ in with_auxiliary:
        assert 0 in main
    # The step in which it starts is evaluated anew, once; the evaluation without cond is void.
    assert [len(branches) for branches in with_auxiliary] == [3, 2, 2]


@pytest.mark.parametrize("order", ORDERS)
def test_an_auxiliary_pass_that_starts_in_a_predicted_step_meets_a_real_prediction(model, pack, counts_of, order):
    """`balanced` predicts step 10 of 25; with such a node no step is predicted from there on."""
    steps, late = 25, late_auxiliary(model, 10, 25)

    def apply(model):
        return pack.nodes["TGATEApply"].execute(model=model).args[0]

    with recording(model, alone := apply(model)) as record:
        tiny.sample(alone, steps=steps)
    assert record.sigmas[10] not in {call.sigma for call in record.calls}
    patched = late(apply(model)) if order == "ours first" else apply(late(model))
    with recording(model, patched) as record:
        tiny.sample(patched, steps=steps)
    by_step = [[call.branches for call in record.calls if call.sigma == sigma] for sigma in record.sigmas[:-1]]
    assert [len(calls) for calls in by_step[10:]] == [2] * 15
    assert all(set(main) == {0, 1} for main, _ in by_step[10:])
    assert counts_of(patched).by_step[10].skipped_passes == 0
    assert counts_of(patched).passes == steps
