"""Where captures live, how many bytes they take, and that the host knows before it loads the model."""

from __future__ import annotations

import comfy.model_management
import pytest
import tiny
import torch
from comfy.patcher_extension import WrappersMP
from record import recording, with_runs


@pytest.fixture(scope="module")
def model():
    return tiny.sd15()


def statistics_of(patched, **options):
    """Run statistics, and the result."""
    observed, runs = with_runs(patched)
    result = tiny.sample(observed, **options)
    return runs[0].counts, result


def branch_bytes(height=8, width=8):
    """Bytes of the cross-attention outputs of the tiny model for one cond in fp32, by hand.

    Per level of h x w latents: two transformer blocks on the way out, one on the way in; 32 and 64 channels, and one in
    the middle.
    """
    full, half = height * width * 32, (height // 2) * (width // 2) * 64
    return 4 * (3 * full + 3 * half + half)


def test_peak_bytes_are_what_both_branches_take(model, gated):
    statistics, _ = statistics_of(gated(model))
    assert statistics.peak_cache_bytes == 2 * branch_bytes()


@pytest.mark.parametrize("guidance", ["cond", "cached_delta"])
def test_a_branch_that_will_not_run_is_not_captured(model, gated, guidance):
    statistics, _ = statistics_of(gated(model, guidance=guidance))
    assert statistics.peak_cache_bytes == branch_bytes()


@pytest.mark.parametrize("device", ["auto", "model", "cpu"])
def test_the_place_of_captures_does_not_show(model, gated, device):
    settings = {"gate": 5.0, "sp_interval": 3, "fi_interval": 2}
    expected = tiny.sample(gated(model, **settings))
    assert torch.equal(tiny.sample(gated(model, **settings, cache_device=device)), expected)


@pytest.mark.newest
@pytest.mark.parametrize("guidance", ["uncond", "cond", "cached_delta", "keep"])
def test_a_limit_is_never_passed_and_the_rest_is_computed(gated, guidance):
    model = tiny.sd15(model_channels=64)
    latent = torch.zeros(1, 4, 32, 32)
    settings = {"gate": 3.0, "guidance": guidance, "protect_last": 1}
    free, _ = statistics_of(gated(model, **settings), steps=6, latent=latent)
    limit = 1
    assert free.peak_cache_bytes > limit * 2**20
    patched = gated(model, **settings, cache_limit_mb=limit)
    with recording(model, patched) as record:
        statistics, result = statistics_of(patched, steps=6, latent=latent)
    assert 0 < statistics.peak_cache_bytes <= limit * 2**20
    assert torch.isfinite(result).all()
    computed = record.per_call("cross_attention")
    assert all(0 < count < 7 for count in computed[3:5])
    if guidance == "uncond":  # what is computed needs the right text, so the pass without it is off
        assert record.batches == [2] * 6
        assert any("cache_limit_mb" in note for note in statistics.notes)


def test_the_host_is_told_before_it_loads_the_model(model, gated):
    asked = []

    def look(executor, *args, **kwargs):
        asked.append(args[1])
        return executor(*args, **kwargs)

    patched = gated(model)
    patched.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, "look", look)
    tiny.sample(patched)
    (shape,) = asked
    extra = model.model.memory_required(list(shape)) - model.model.memory_required([1, 4, 8, 8])
    assert extra == pytest.approx(2 * branch_bytes(), rel=1e-3)


@pytest.mark.parametrize(("device", "share"), [("auto", 0.25), ("model", 1.0), ("cpu", 0.0)])
def test_weights_are_not_unloaded_for_captures_that_can_live_elsewhere(model, gated, monkeypatch, device, share):
    """A card with room for a quarter of the captures, beside the weights and what sampling takes."""
    asked = []

    def look(executor, *args, **kwargs):
        asked.append(args[1])
        return executor(*args, **kwargs)

    patched = gated(model, cache_device=device)
    patched.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, "look", look)
    base = model.model.memory_required([1, 4, 8, 8])
    taken = model.model_size() + comfy.model_management.minimum_inference_memory() + base
    total = taken + branch_bytes() / 2
    monkeypatch.setattr(comfy.model_management, "get_total_memory", lambda *_, **__: total)
    tiny.sample(patched)
    (shape,) = asked
    extra = model.model.memory_required(list(shape)) - base
    assert extra == pytest.approx(share * 2 * branch_bytes(), rel=1e-2, abs=1.0)
