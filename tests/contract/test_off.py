"""Off means off: whatever switches T-GATE off leaves the result bit-equal to a model that never met it."""

from __future__ import annotations

import pytest
import tiny
import torch


@pytest.fixture(scope="module")
def model():
    return tiny.sd15()


@pytest.fixture(scope="module")
def plain(model):
    return tiny.sample(model)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"gate": 8.0, "sp_interval": 3}, id="gate = steps"),
        pytest.param({"gate": 100.0, "sp_interval": 3}, id="gate beyond the run"),
        pytest.param({"gate": 1.0, "gate_unit": "fraction of steps"}, id="fraction 1"),
        pytest.param({"gate": 1.0, "gate_unit": "percent of schedule"}, id="percent 1"),
        pytest.param(
            {"gate": 2.0, "cross_attention": False, "self_attention": False, "guidance": "keep"}, id="nothing to gate"
        ),
        pytest.param({"gate": 2.0, "self_attention": False, "guidance": "keep", "protect_last": 8}, id="all protected"),
    ],
)
def test_switched_off_is_bit_equal(model, plain, gated, settings):
    assert torch.equal(tiny.sample(gated(model, **settings)), plain)


def test_the_model_that_went_in_is_unchanged(model, plain, gated):
    patched = gated(model, sp_interval=2)
    assert not torch.equal(tiny.sample(patched), plain)
    assert torch.equal(tiny.sample(model), plain)


def test_removed_leaves_nothing_on_the_modules(model, gated):
    patched = gated(model)
    tiny.sample(patched)
    tiny.sample(model)  # loads the unpatched clone
    for block in tiny.blocks(model):
        assert "forward" not in block.attn1.__dict__
        assert "forward" not in block.attn2.__dict__


def test_a_clone_made_before_the_node_stays_plain(model, plain, gated):
    clone = model.clone()
    tiny.sample(gated(clone))
    assert torch.equal(tiny.sample(clone), plain)


def test_cfg_1_without_cross_attention_gating_is_bit_equal(model, gated):
    patched = gated(model, gate=2.0, cross_attention=False)
    assert torch.equal(tiny.sample(patched, cfg=1.0), tiny.sample(model, cfg=1.0))
