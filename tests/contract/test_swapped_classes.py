"""Packs that put classes of their own into the loaded network: known for what it is, or left alone and told why."""

from __future__ import annotations

import pytest
import tiny
import torch
from families import FAMILIES
from foreign_nodes import derived_class, own_class, swapped_classes
from record import recording

STEPS = 8
WAN = next(family for family in FAMILIES if family.name == "Wan T2V")
OTHER_CODE = "another node runs this model by code of its own (Own{network})"


@pytest.fixture
def model():
    """Its own, as loading it changes the classes of its modules until another one is loaded."""
    return tiny.sd15()


@pytest.fixture
def report(pack):
    def tell(patched, samples):
        return pack.nodes["TGATEReport"].execute(model=patched, latent={"samples": samples}).args[1]

    return tell


class TestDerivedNetworks:
    """Known by what they are derived from; their blocks by what they hold."""

    @pytest.mark.parametrize("order", ["ours first", "ours last"])
    @pytest.mark.parametrize("guidance", ["uncond", "cached_delta", "keep"])
    def test_a_unet_is_gated_as_ever(self, model, gated, report, order, guidance):
        settings = {"gate": 4.0, "sp_interval": 2, "guidance": guidance}
        expected = tiny.sample(gated(model, **settings))
        if order == "ours first":
            patched = swapped_classes(gated(model, **settings), derived_class)
        else:
            patched = gated(swapped_classes(model, derived_class), **settings)
        with recording(model, patched) as record:
            result = tiny.sample(patched)
        assert torch.equal(result, expected)
        assert record.per_call("cross_attention") == [7] * 4 + [0] * 4
        assert f"Steps: 4 of {STEPS} gated" in report(patched, result)

    def test_blocks_of_another_class_are_left_out_and_counted(self, model, gated, report):
        """Of a network that is the host's own."""
        expected = tiny.sample(gated(model, gate=4.0))
        patched = swapped_classes(gated(model, gate=4.0), own_class, is_network_swapped=False)
        with recording(model, patched) as record:
            result = tiny.sample(patched)
        assert torch.equal(result, expected)
        assert record.per_call("cross_attention") == [7] * 4 + [0] * 4
        assert "Attention: 28 of 112 calls reused" in report(patched, result)

    @pytest.mark.skipif(not WAN.is_available, reason="this host does not know the model")
    def test_another_network_is_gated_as_ever(self, gated, report):
        model = WAN.make()
        expected = WAN.sample(gated(model, gate=3.0))
        patched = swapped_classes(gated(model, gate=3.0), derived_class)
        result = WAN.sample(patched)
        assert torch.equal(result, expected)
        assert "Steps: 3 of 6 gated" in report(patched, result)


class TestNetworksOfTheirOwn:
    """Left alone: how they run their attentions is theirs."""

    def test_it_is_left_as_it_is_and_named(self, model, pack, report, caplog):
        plain = tiny.sample(swapped_classes(model, own_class))
        gated = pack.nodes["TGATEApply"].execute(model=model, preset="as published").args[0]
        patched = swapped_classes(gated, own_class)
        with caplog.at_level("INFO"):
            result = tiny.sample(patched)
        assert torch.equal(result, plain)
        text, reason = report(patched, result), OTHER_CODE.format(network="UNetModel")
        assert f"Steps: none of {STEPS} gated" in text
        assert f"Why not more: {reason}" in text
        assert any(reason in line for line in caplog.messages)
        assert "KeyError" not in text
        assert "the gate lies" not in text + caplog.text

    def test_the_nodes_say_so_where_it_comes_before_them(self, model, pack, gated, report, caplog):
        own, reason = swapped_classes(model, own_class), OTHER_CODE.format(network="UNetModel")
        plain = tiny.sample(own)
        for node in ("TGATEApplyAdvanced", "TGATEDeepCache", "TGATEProbe"):
            with caplog.at_level("INFO"):
                caplog.clear()
                patched = pack.nodes[node].execute(model=own).args[0]
            assert reason in caplog.text
            assert "joint attention" not in caplog.text
            assert torch.equal(tiny.sample(patched), plain)
        assert reason in report(own, plain)

    @pytest.mark.parametrize("order", ["ours first", "ours last"])
    def test_a_preset_drops_guidance_all_the_same(self, model, pack, report, order):
        if order == "ours first":
            patched = swapped_classes(pack.nodes["TGATEApply"].execute(model=model).args[0], own_class)
        else:
            patched = pack.nodes["TGATEApply"].execute(model=swapped_classes(model, own_class)).args[0]
        # With it no step can be predicted.
        text = report(patched, tiny.sample(patched, steps=20, sampler="heun"))
        assert "Attention: 0 of 0 calls reused" in text
        assert "Guidance: second pass left out 0 of" not in text
        assert f"Why not more: {OTHER_CODE.format(network='UNetModel')}" in text

    @pytest.mark.parametrize("order", ["ours first", "ours last"])
    def test_guidance_can_still_be_dropped(self, model, gated, report, order):
        settings = {"gate": 4.0, "guidance": "cached_delta"}
        if order == "ours first":
            patched = swapped_classes(gated(model, **settings), own_class)
        else:
            patched = gated(swapped_classes(model, own_class), **settings)
        text = report(patched, tiny.sample(patched))
        assert f"Steps: 4 of {STEPS} gated" in text
        assert "Guidance: second pass left out 4 of 8 times" in text
        assert f"Why not more: {OTHER_CODE.format(network='UNetModel')}" in text
        assert "MACs: not counted (counting runs the network on shapes alone, which this one does not allow: " in text

    def test_deep_cache_and_the_probe_leave_it_alone(self, model, pack, deep, report):
        plain = tiny.sample(swapped_classes(model, own_class))
        probed, probe = pack.nodes["TGATEProbe"].execute(model=model).args
        for ours in (deep(model), probed):
            patched = swapped_classes(ours, own_class)
            result = tiny.sample(patched)
            assert torch.equal(result, plain)
            assert OTHER_CODE.format(network="UNetModel") in report(patched, result)
        assert probe.profile is None

    @pytest.mark.skipif(not WAN.is_available, reason="this host does not know the model")
    def test_another_network_is_left_alone_too(self, gated, report):
        model = WAN.make()
        plain = WAN.sample(swapped_classes(model, own_class))
        patched = swapped_classes(gated(model, gate=3.0), own_class)
        result = WAN.sample(patched)
        assert torch.equal(result, plain)
        assert OTHER_CODE.format(network="WanModel") in report(patched, result)


@pytest.mark.parametrize("node", ["TGATEApply", "TGATEApplyAdvanced", "TGATEProbe"])
def test_what_was_sampled_last_says_nothing_of_the_next_model(model, pack, gated, node, caplog):
    """Once the other node is bypassed its classes are still there, until the next model is loaded."""
    expected = tiny.sample(pack.nodes[node].execute(model=model).args[0])
    tiny.sample(swapped_classes(model, own_class))
    assert type(model.model.diffusion_model).__name__ == "OwnUNetModel"
    with caplog.at_level("INFO"):
        caplog.clear()
        patched = pack.nodes[node].execute(model=model).args[0]
    assert caplog.messages == []
    assert torch.equal(tiny.sample(patched), expected)


def test_a_probe_knows_its_model_whatever_was_sampled_last(model, pack, gated):
    patched, probe = pack.nodes["TGATEProbe"].execute(model=model).args
    tiny.sample(patched)
    measured = gated(model, gate=100.0, gate_unit="measured", probe=type(probe)(probe.profile))
    expected = tiny.sample(measured)
    tiny.sample(swapped_classes(model, own_class))
    assert torch.equal(tiny.sample(measured), expected)
