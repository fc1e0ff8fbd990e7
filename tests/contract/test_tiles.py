"""Other nodes that call the network on tiles of the latent: never another tile's capture."""

from __future__ import annotations

import pytest
import tiny
import torch
from record import recording
from tiling import EQUAL, TILINGS, tiled, wandering

pytestmark = pytest.mark.oldest

GUIDANCE = ["uncond", "cond", "cached_delta", "keep"]
SETTINGS = {"gate": 4.0, "sp_interval": 3, "fi_interval": 2}


@pytest.fixture(scope="module")
def model():
    return tiny.sd15()


@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize("strips_of_step", TILINGS.values(), ids=TILINGS)
def test_every_tile_is_its_own_sampling(model, gated, guidance, strips_of_step):
    drawn = tiny.noise(3, width=16)
    patched = gated(model, **SETTINGS, guidance=guidance)
    result = tiny.sample(tiled(patched, strips_of_step), drawn=drawn)
    alone = [
        tiny.sample(patched, drawn=drawn[..., start : start + width]) for start, width in sorted(strips_of_step(0))
    ]
    assert (result - torch.cat(alone, dim=-1)).abs().max() < 1e-4 * result.std()


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_tiles_are_gated_like_anything_else(model, gated, guidance):
    patched = tiled(gated(model, gate=4.0, guidance=guidance), lambda step: EQUAL)
    with recording(model, patched) as record:
        tiny.sample(patched, drawn=tiny.noise(3, width=16))
    assert record.per_call("cross_attention") == [7] * 8 + [0] * 8


def test_overlapping_tiles_in_any_order_give_the_same(model, gated):
    patched, drawn = gated(model, **SETTINGS), tiny.noise(3, width=16)
    overlapping = [(0, 8), (4, 8), (8, 8)]
    one = tiny.sample(tiled(patched, lambda step: overlapping), drawn=drawn)
    other = tiny.sample(tiled(patched, lambda step: overlapping[:: -1 if step % 2 else 1]), drawn=drawn)
    assert (one - other).abs().max() < 1e-5 * one.std()


@pytest.mark.parametrize("guidance", ["uncond", "keep"])
def test_tiles_that_wander_are_computed_in_full(model, gated, guidance):
    """A tile of the same ordinal and size is elsewhere at every step: nothing may be reused, so nothing changes."""
    patched, drawn = gated(model, gate=2.0, guidance=guidance), tiny.noise(3, width=16)
    plain = tiny.sample(tiled(model, wandering), drawn=drawn, steps=4)
    assert torch.equal(tiny.sample(tiled(patched, wandering), drawn=drawn, steps=4), plain)


def test_tiles_in_one_batch_are_computed_in_full(model, gated):
    """Two tiles of two conds in one batch: which row is which cond is not for us to guess."""

    def batched(apply_model, arguments):
        x, timestep, conditioning = arguments["input"], arguments["timestep"], arguments["c"]
        context = torch.cat([conditioning["c_crossattn"]] * 2)
        tiles, times = torch.cat([x[..., :8], x[..., 8:]]), torch.cat([timestep] * 2)
        both = apply_model(tiles, times, **{**conditioning, "c_crossattn": context})
        return torch.cat(both.chunk(2), dim=-1)

    patched, drawn = gated(model, gate=2.0), tiny.noise(3, width=16)
    results = []
    for source in (model, patched):
        clone = source.clone()
        clone.set_model_unet_function_wrapper(batched)
        results.append(tiny.sample(clone, drawn=drawn, steps=4))
    assert torch.equal(*results)


def test_flat_latents_do_not_pretend_to_show_their_place(pack):
    find_tile = pack.core("engine.location").find_tile
    flat = torch.zeros(1, 4, 8, 8)
    assert find_tile(flat[..., :4], flat) is None
    textured = tiny.noise(1)
    assert find_tile(textured[..., 2:6], textured) == (0, 2)
    assert find_tile(textured[..., 2:6], textured, guess=(0, 2)) == (0, 2)
    assert find_tile(textured[..., 2:6] + 1e-6, textured) is None
    assert find_tile(torch.cat([textured, textured], dim=-1), textured) is None
