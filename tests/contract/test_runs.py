"""Run after run: nothing of one sampling run reaches another, however it ended."""

from __future__ import annotations

import gc
import weakref

import comfy.model_management
import pytest
import tiny
import torch


@pytest.fixture(scope="module")
def model():
    return tiny.sd15()


SETTINGS = {"gate": 6.0, "sp_interval": 3, "fi_interval": 2, "warm_up": 0}


class ModelError(Exception):
    """Raised inside the model on purpose."""


def captured_tensors(pack):
    """Weak references to all tensors that T-GATE holds at this moment."""
    capture = pack.core("engine.cache").Capture
    return [weakref.ref(item.base) for item in gc.get_objects() if type(item) is capture]


def test_sampled_again_is_identical(model, gated):
    patched = gated(model, **SETTINGS)
    first = tiny.sample(patched)
    assert torch.equal(tiny.sample(patched), first)


@pytest.mark.parametrize("guidance", ["uncond", "cond", "cached_delta", "keep"])
def test_two_nodes_on_clones_do_not_see_each_other(model, gated, guidance):
    one, other = gated(model, **SETTINGS, guidance=guidance), gated(model, gate=2.0, sp_interval=3, guidance="cond")
    alone, other_alone = tiny.sample(gated(model, **SETTINGS, guidance=guidance)), tiny.sample(other)
    tiny.sample(other)
    assert torch.equal(tiny.sample(one), alone)
    assert torch.equal(tiny.sample(other), other_alone)


@pytest.mark.parametrize("fails_at", [1, 4, 6])
def test_an_error_in_the_model_leaves_nothing(model, gated, pack, fails_at):
    patched = gated(model, **SETTINGS)
    expected = tiny.sample(patched)
    steps_done, held = [], []

    def fail(*_):
        if len(steps_done) == fails_at:
            held.extend(captured_tensors(pack))
            raise ModelError

    handle = tiny.blocks(model)[3].ff.register_forward_hook(fail)
    try:
        with pytest.raises(ModelError) as error:
            tiny.sample(patched, callback=lambda *_: steps_done.append(True))
    finally:
        handle.remove()
    del error
    gc.collect()
    assert held
    assert [reference for reference in held if reference() is not None] == []
    assert torch.equal(tiny.sample(patched), expected)


@pytest.mark.parametrize("stops_after", [1, 3, 5])
def test_an_interrupt_leaves_nothing(model, gated, pack, stops_after):
    patched = gated(model, **SETTINGS)
    expected = tiny.sample(patched)
    held = []

    def interrupt(step, *_):
        if step == stops_after:
            held.extend(captured_tensors(pack))
            comfy.model_management.interrupt_current_processing()

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        tiny.sample(patched, callback=interrupt)
    gc.collect()
    assert held
    assert [reference for reference in held if reference() is not None] == []
    assert torch.equal(tiny.sample(patched), expected)


def test_a_finished_run_frees_its_captures(model, gated, pack):
    held = []
    tiny.sample(gated(model, **SETTINGS), callback=lambda *_: held.extend(captured_tensors(pack)))
    gc.collect()
    assert held
    assert [reference for reference in held if reference() is not None] == []


def test_a_run_that_stopped_early_does_not_reach_the_next(model, gated):
    patched = gated(model, **SETTINGS)
    expected = tiny.sample(patched)
    tiny.sample(patched, last_step=5)
    assert torch.equal(tiny.sample(patched), expected)


def test_other_sizes_between_runs(model, gated):
    patched = gated(model, **SETTINGS)
    sizes = [(1, 8, 8), (2, 8, 8), (1, 8, 12), (1, 12, 8), (1, 8, 8)]
    latents = [torch.zeros(batch, 4, height, width) for batch, height, width in sizes]
    fresh = [tiny.sample(gated(tiny.sd15(), **SETTINGS), latent=latent) for latent in latents]
    for latent, expected in zip(latents, fresh, strict=True):
        assert torch.equal(tiny.sample(patched, latent=latent), expected)


def test_rows_of_a_batch_do_not_mix(model, gated):
    """Each row of a batch is what it would be alone, up to rounding."""
    patched = gated(model, **SETTINGS)
    both = tiny.sample(patched, latent=torch.zeros(2, 4, 8, 8))
    plain = tiny.sample(model, latent=torch.zeros(2, 4, 8, 8))
    first = tiny.sample(patched)
    assert (both[:1] - first).abs().max() < 1e-4 * first.std()
    assert (both - plain).abs().amax(dim=(1, 2, 3)).min() > 1e-3 * plain.std()
