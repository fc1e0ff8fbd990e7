"""DeepCache alone: which blocks run, what comes of it, and that off means off."""

from __future__ import annotations

import comfy.model_management
import graphs
import pytest
import tiny
import torch
import unet_kin
import variants
from block_record import block_recording, shallow_blocks
from families import FAMILIES
from reference import reference
from tiny import distance, split_all_conds

EXACT = 1e-5  # of the latent's spread
FELT = 1e-3
STEPS = 8
TWO_BLOCKS = {
    "num_res_blocks": [2, 2],
    "transformer_depth": [1, 1, 1, 1],
    "transformer_depth_output": [1] * 6,
}


@pytest.fixture(scope="module")
def model():
    return tiny.sd15()


@pytest.fixture(scope="module")
def wider():
    """Two blocks a level: six blocks on the way in, and five places to cut."""
    return tiny.sd15(**TWO_BLOCKS)


@pytest.mark.parametrize(
    ("settings", "depths"),
    [
        pytest.param({}, "FssFssFs", id="default"),
        pytest.param({"cache_interval": 2}, "FsFsFsFs", id="interval 2"),
        pytest.param({"cache_interval": 100}, "Fsssssss", id="one full step"),
        pytest.param({"cache_interval": 2, "cache_branch_id": 2}, "FsFsFsFs", id="only the middle is left out"),
        pytest.param({"start": 0.25}, "FFFssFss", id="start"),
        pytest.param({"end": 0.5}, "FssFFFFF", id="end"),
        pytest.param({"start": 0.25, "end": 0.75}, "FFFssFFF", id="start and end"),
    ],
)
def test_full_and_shallow_steps(model, deep, settings, depths):
    patched = deep(model, **settings)
    with block_recording(model, patched) as record:
        result = tiny.sample(patched, steps=STEPS)
    assert record.depths == depths
    branch = settings.get("cache_branch_id", 0)
    assert all(call.blocks in (record.everything, shallow_blocks(model, branch)) for call in record.calls)
    share = {"first": settings.get("start", 0.0), "last": settings.get("end", 1.0)}
    on = {name: round(value * STEPS) for name, value in share.items()}
    oracle = reference(model, interval=settings.get("cache_interval", 3), branch=branch, **on)
    expected = tiny.sample(oracle, steps=STEPS)
    assert distance(result, expected) < EXACT
    assert distance(expected, tiny.sample(model, steps=STEPS)) > FELT


@pytest.mark.parametrize("branch", range(5))
def test_every_branch(wider, deep, branch):
    patched = deep(wider, cache_branch_id=branch)
    with block_recording(wider, patched) as record:
        result = tiny.sample(patched, steps=4)
    assert [call.blocks == shallow_blocks(wider, branch) for call in record.calls] == [False, True, True, False]
    assert distance(result, tiny.sample(reference(wider, interval=3, branch=branch), steps=4)) < EXACT


def test_a_branch_beyond_the_deepest_is_the_deepest(model, deep, caplog):
    with caplog.at_level("INFO"):
        patched = deep(model, cache_branch_id=10)
    assert "deepest, 2, is used" in caplog.text
    assert torch.equal(tiny.sample(patched, steps=4), tiny.sample(deep(model, cache_branch_id=2), steps=4))


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"cache_interval": 1}, id="interval 1"),
        pytest.param({"start": 0.5, "end": 0.5}, id="start = end"),
        pytest.param({"start": 0.8, "end": 0.2}, id="start behind end"),
        pytest.param({"start": 0.99, "end": 1.0}, id="no step in between"),
    ],
)
def test_switched_off_is_bit_equal(model, deep, settings):
    assert torch.equal(tiny.sample(deep(model, **settings)), tiny.sample(model))


def test_the_model_that_went_in_is_unchanged(model, deep):
    plain = tiny.sample(model)
    assert not torch.equal(tiny.sample(deep(model)), plain)
    assert torch.equal(tiny.sample(model), plain)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cache_interval": 0}, "cache_interval is 0"),
        ({"cache_branch_id": -1}, "cache_branch_id is -1"),
        ({"start": 1.5}, "start is 1.5"),
        ({"end": float("nan")}, "end is nan"),
    ],
)
def test_settings_out_of_range_are_named(model, deep, settings, message):
    with pytest.raises(ValueError, match=message):
        deep(model, **settings)


def test_the_nearest_node_wins(model, deep, caplog):
    with caplog.at_level("INFO"):
        twice = deep(deep(model, cache_interval=2), cache_interval=4)
    assert "had DeepCache already" in caplog.text
    assert torch.equal(tiny.sample(twice), tiny.sample(deep(model, cache_interval=4)))


@pytest.mark.parametrize(
    "sampler", ["heun", "dpmpp_2s_ancestral", "dpm_2", "heunpp2", "dpm_fast", "dpm_adaptive", "lcm"]
)
def test_samplers_that_evaluate_more_often_or_elsewhere(model, deep, sampler):
    """An evaluation is shallow only where the same one of an earlier step of its cycle was full."""
    patched = deep(model)
    with block_recording(model, patched) as record:
        result = tiny.sample(patched, sampler=sampler, steps=6)
    assert torch.isfinite(result).all()
    assert record.depths.startswith("F")
    assert "s" in record.depths
    if sampler in ("heun", "dpmpp_2s_ancestral"):
        assert record.depths == "FsFssFFssss"  # 0 1 1 2 2 3 3 4 4 5 5


def test_a_restart_begins_with_a_full_step(model, deep):
    patched = deep(model, cache_interval=4)
    with block_recording(model, patched) as record:
        graphs.sampler_custom(patched, graphs.manual_sigmas(14.0, 8.0, 4.0, 9.0, 5.0, 2.0, 0.0))
    assert record.depths == "FssFFs"  # step 3 rises, step 4 is due


@pytest.mark.parametrize("split_from", [0, 1, 2, 3])
def test_one_call_or_two_give_the_same(deep, split_from):
    model = tiny.sd15()
    patched = deep(model)
    together = tiny.sample(patched)
    if split_from == 0:
        split_all_conds(model)

    def change_memory(step, *_):
        if step + 1 == split_from:
            split_all_conds(model)

    with block_recording(model, patched) as record:
        apart = tiny.sample(patched, callback=change_memory)
    assert record.depths[-1] == "s"
    assert distance(apart, together) < EXACT


def test_sizes_and_batches_may_change_between_runs(model, deep):
    patched = deep(model)
    for height, width, batch in [(8, 8, 1), (12, 8, 1), (8, 8, 3), (10, 14, 2), (8, 8, 1)]:
        drawn = tiny.noise(3, batch=batch, height=height, width=width)
        expected = tiny.sample(reference(model, interval=3), drawn=drawn, steps=4)
        assert distance(tiny.sample(patched, drawn=drawn, steps=4), expected) < EXACT


def test_without_guidance(model, deep):
    patched = deep(model)
    with block_recording(model, patched) as record:
        result = tiny.sample(patched, cfg=1.0)
    assert [call.branches for call in record.calls] == [[0]] * 8
    assert record.depths == "FssFssFs"
    assert distance(result, tiny.sample(reference(model, interval=3), cfg=1.0)) < EXACT


@pytest.mark.parametrize("error", [RuntimeError, comfy.model_management.InterruptProcessingException])
def test_an_interrupted_run_leaves_nothing(model, deep, error):
    patched = deep(model)
    before = tiny.sample(patched)

    def stop(step, *_):
        if step == 4:
            raise error

    with pytest.raises(error):
        tiny.sample(patched, callback=stop)
    assert not any(name in patched.model_options["transformer_options"] for name in ("tgate_run", "tgate_pass"))
    assert torch.equal(tiny.sample(patched), before)
    assert all("forward" not in layer.__dict__ for layer in model.model.diffusion_model.modules())


@pytest.mark.parametrize("name", ["ssd_1b", "vega", "koala", "playground", "animated"])
def test_kin_of_the_unet(deep, name):
    model = getattr(unet_kin, name)()
    batch = unet_kin.FRAMES if name == "animated" else 1
    positive, negative = (
        [[cond[0][0], {"pooled_output": torch.ones(1, 1280)}]] for cond in (tiny.text(1), tiny.text(2))
    )
    run = {"steps": 4, "drawn": tiny.noise(4, batch=batch), "positive": positive, "negative": negative}
    patched = deep(model)
    with block_recording(model, patched) as record:
        result = tiny.sample(patched, **run)
    if name == "playground":  # one level of one block: only the middle can be left out
        assert [len(call.blocks) for call in record.calls] == [5, 4, 4, 5]
    else:
        assert record.depths == "FssF"
    assert distance(result, tiny.sample(reference(model, interval=3), **run)) < EXACT


def test_networks_that_are_no_unets_are_passed_on(deep, caplog):
    family = next(family for family in FAMILIES if family.name == "PixArt-Sigma")
    model = family.make()
    with caplog.at_level("INFO"):
        patched = deep(model)
    assert "DeepCache is for UNets" in caplog.text
    assert "tgate_deep_cache" not in patched.model_options["transformer_options"]


def test_a_host_that_cannot_leave_out_layers(model, pack, caplog):
    if pack.core("host.unet_blocks").can_leave_out_layers():
        pytest.skip("this version of the host can")
    with caplog.at_level("INFO"):
        patched = pack.nodes["TGATEDeepCache"].execute(model=model).args[0]
    assert "needs a newer ComfyUI" in caplog.text
    assert torch.equal(tiny.sample(patched), tiny.sample(model))


def test_a_unet_without_a_middle_and_one_block_has_nothing_to_leave_out(deep, caplog):
    model = variants.one_level(transformer_depth_middle=-2)
    with caplog.at_level("INFO"):
        patched = deep(model)
    assert "passed on unchanged" in caplog.text
    assert torch.equal(tiny.sample(patched, steps=4), tiny.sample(model, steps=4))
