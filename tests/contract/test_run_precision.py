"""Precision, frame count and memory changing between runs of one patched MODEL."""

from __future__ import annotations

import gc
import weakref

import comfy.model_management
import pytest
import tiny
import torch
import variants
from record import recording
from reference import reference
from tiny import distance
from variants import ATTENTIONS

pytestmark = pytest.mark.newest

EXACT = 1e-6  # of the latent's spread; the effect of T-GATE is above 1e-3
SETTINGS = {"gate": 5.0, "sp_interval": 3, "fi_interval": 2}
PRECISIONS = [torch.float32, torch.bfloat16, torch.float16, torch.float32]


@pytest.mark.parametrize("guidance", ["uncond", "cond", "cached_delta", "keep"])
def test_precision_changes_between_runs(gated, guidance):
    """Each run is what a fresh model in that precision gives: nothing of the run before it, not even its dtype."""
    model = variants.casting(torch.bfloat16)
    patched = gated(model, **SETTINGS, guidance=guidance)
    results = []
    for dtype in PRECISIONS:
        model.model.manual_cast_dtype = dtype
        results.append(tiny.sample(patched))
        fresh = variants.casting(torch.bfloat16)
        fresh.model.manual_cast_dtype = dtype
        assert torch.equal(results[-1], tiny.sample(gated(fresh, **SETTINGS, guidance=guidance)))
    assert torch.equal(results[0], results[-1])
    assert all(not torch.equal(result, results[0]) for result in results[1:-1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("make", [variants.casting, variants.weights_in])
@pytest.mark.parametrize("guidance", ["uncond", "cached_delta"])
def test_half_precision_is_gated_like_full(gated, make, dtype, guidance):
    model = make(dtype)
    patched = gated(model, guidance=guidance)
    with recording(model, patched) as record:
        result = tiny.sample(patched)
    assert record.per_call("cross_attention") == [ATTENTIONS] * 4 + [0] * 4
    assert result.dtype == torch.float32
    assert torch.isfinite(result).all()
    assert distance(result, tiny.sample(reference(model, 4, guidance))) < EXACT


@pytest.mark.parametrize("guidance", ["uncond", "cond", "cached_delta", "keep"])
def test_frame_count_changes_between_runs(gated, guidance):
    """Frames lie in the batch dimension, spatial and temporal attention under the host's same name."""
    model = variants.svd()
    patched = gated(model, gate=2.0, guidance=guidance)
    for frames, height in [(3, 8), (5, 8), (2, 12), (3, 8)]:
        latent = torch.zeros(frames, 4, height, 8)
        result = tiny.sample(patched, steps=4, latent=latent)
        assert torch.isfinite(result).all()
        assert distance(result, tiny.sample(reference(model, 2, guidance), steps=4, latent=latent)) < EXACT


@pytest.mark.parametrize("fails_at", [0, 2, 6])
@pytest.mark.parametrize("unloads", [True, False])
def test_out_of_memory_in_the_model_leaves_nothing(gated, pack, fails_at, unloads):
    """The host reports it and unloads all models; the user lowers the size and queues again."""
    model = variants.one_level()
    patched = gated(model, **SETTINGS)
    small, large = torch.zeros(1, 4, 8, 8), torch.zeros(2, 4, 16, 8)
    expected = tiny.sample(patched, latent=small)
    steps_done, held = [], []

    def run_out(*_):
        if len(steps_done) == fails_at:
            capture = pack.core("engine.cache").Capture
            held.extend(weakref.ref(item.base) for item in gc.get_objects() if type(item) is capture)
            raise torch.OutOfMemoryError("out of memory, on purpose")

    handle = tiny.blocks(model)[1].ff.register_forward_hook(run_out)
    try:
        with pytest.raises(comfy.model_management.OOM_EXCEPTION):
            tiny.sample(patched, latent=large, callback=lambda *_: steps_done.append(True))
    finally:
        handle.remove()
    if unloads:
        comfy.model_management.unload_all_models()
    gc.collect()
    assert held
    assert [reference for reference in held if reference() is not None] == []
    assert torch.equal(tiny.sample(patched, latent=small), expected)
    assert torch.equal(
        tiny.sample(patched, latent=large), tiny.sample(gated(variants.one_level(), **SETTINGS), latent=large)
    )
