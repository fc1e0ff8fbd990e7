"""How the host batches conds (memory decides, step by step) must not show in the result."""

from __future__ import annotations

import pytest
import tiny
import torch
from record import recording
from tiny import split_all_conds


@pytest.fixture(scope="module")
def model():
    return tiny.sd15()


@pytest.mark.parametrize("guidance", ["uncond", "cond", "cached_delta", "keep"])
@pytest.mark.parametrize("fi_interval", [1, 3])
def test_one_call_or_two_give_the_same(model, gated, guidance, fi_interval):
    settings = {"gate": 5.0, "sp_interval": 3, "fi_interval": fi_interval, "guidance": guidance}
    together = tiny.sample(gated(model, **settings))
    apart = tiny.sd15()
    split_all_conds(apart)
    patched = gated(apart, **settings)
    with recording(apart, patched) as record:
        result = tiny.sample(patched)
    assert set(record.batches) == {1}
    assert (result - together).abs().max() < 1e-4 * together.std()


@pytest.mark.parametrize("split_from", [1, 4, 5, 6])
def test_splitting_in_mid_run_gives_the_same(gated, split_from):
    model = tiny.sd15()
    patched = gated(model, gate=5.0, sp_interval=3, fi_interval=3)
    together = tiny.sample(patched)
    factor = model.model.memory_usage_factor

    def change_memory(step, *_):
        if step + 1 == split_from:
            split_all_conds(model)

    with recording(model, patched) as record:
        apart = tiny.sample(patched, callback=change_memory)
    model.model.memory_usage_factor = factor
    assert record.batches.count(2) == min(split_from, 5)
    assert (apart - together).abs().max() < 1e-4 * together.std()


def test_other_text_lengths_run_apart_and_still_merge(model, gated):
    """8 and 9 tokens cannot share a call; the captures, which have no text axis, still have one mean."""
    patched = gated(model, gate=4.0)
    negative = tiny.text(2, tokens=9)
    with recording(model, patched) as record:
        result = tiny.sample(patched, negative=negative)
    assert record.batches == [1, 1] * 4 + [1] * 4
    assert [call.cross_attention for call in record.calls[8:]] == [0] * 4
    assert torch.isfinite(result).all()
