"""The nodes themselves: what they refuse, what they pass through, and who wins."""

from __future__ import annotations

import logging

import comfy.model_base
import comfy.model_patcher
import comfy.supported_models
import pytest
import tiny
import torch


@pytest.fixture(scope="module")
def model():
    return tiny.sd15()


@pytest.mark.parametrize(
    ("settings", "name", "remedy"),
    [
        ({"gate": -1.0}, "gate", "between 0 and"),
        ({"gate": float("nan")}, "gate", "between 0 and"),
        ({"gate": float("inf")}, "gate", "between 0 and"),
        ({"gate": 1.5, "gate_unit": "fraction of steps"}, "gate", "between 0 and 1"),
        ({"gate": 10.0, "gate_unit": "percent of schedule"}, "gate", "between 0 and 1"),
        ({"gate_unit": "seconds"}, "gate_unit", "choose one of"),
        ({"sp_interval": 0}, "sp_interval", "use 1"),
        ({"fi_interval": 0}, "fi_interval", "use 1"),
        ({"warm_up": -1}, "warm_up", "use 0"),
        ({"protect_last": -1}, "protect_last", "use 0"),
        ({"guidance": "none"}, "guidance", "choose one of"),
        ({"cache_device": "disk"}, "cache_device", "choose one of"),
    ],
)
def test_bad_input_is_refused_by_name_with_a_remedy(model, pack, settings, name, remedy):
    with pytest.raises(ValueError, match=f"{name} is .*{remedy}"):
        pack.nodes["TGATEApplyAdvanced"].execute(model=model, **settings)


def test_an_unknown_preset_is_refused(model, pack):
    with pytest.raises(ValueError, match=r"preset is 'turbo'; choose one of: balanced, gentle, fast, as published"):
        pack.nodes["TGATEApply"].execute(model=model, preset="turbo")


def test_nothing_to_gate_is_allowed_and_logged(model, gated, caplog):
    caplog.set_level(logging.INFO)
    patched = gated(model, cross_attention=False, self_attention=False, guidance="keep")
    assert "nothing to save" in caplog.text
    assert torch.equal(tiny.sample(patched), tiny.sample(model))


def test_a_model_without_attention_is_refused(pack):
    bare = tiny.sd15(transformer_depth=[0, 0], transformer_depth_output=[0, 0, 0, 0], transformer_depth_middle=-1)
    for node in pack.nodes.values():
        with pytest.raises(ValueError, match="model has no attention"):
            node.execute(model=bare)


def test_a_family_that_is_not_supported_passes_through_with_a_warning(pack, caplog):
    shape = {"dim": 32, "n_layers": 2, "n_double_layers": 1, "n_heads": 2, "global_conddim": 32, "cond_seq_dim": 16}
    config = comfy.supported_models.AuraFlow({**shape, "dtype": torch.float32})
    device = torch.device("cpu")
    aura = comfy.model_patcher.ModelPatcher(comfy.model_base.AuraFlow(config), device, device)
    for node in pack.nodes.values():
        caplog.clear()
        passed = node.execute(model=aura).args[0]
        assert "family AuraFlow are not supported yet" in caplog.text
        assert passed.model is aura.model
        assert passed.wrappers == aura.wrappers
        assert passed.injections == aura.injections
        assert passed.model_options == aura.model_options


def test_of_two_nodes_in_a_row_the_last_wins_with_a_log_line(model, gated, caplog):
    caplog.set_level(logging.INFO)
    stacked = gated(gated(model, gate=2.0, sp_interval=2, guidance="cond"), gate=5.0)
    assert "nearest to the sampler wins" in caplog.text
    assert torch.equal(tiny.sample(stacked), tiny.sample(gated(model, gate=5.0)))


def test_a_run_is_summed_up_in_one_log_line(model, gated, caplog):
    caplog.set_level(logging.INFO)
    patched = gated(model, gate=5.0)
    tiny.sample(patched)
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("TGATE:")]
    assert len(lines) == 1
    assert "gate at step 5 of 8; 21 of 112 attentions reused, guidance dropped in 3 evaluations" in lines[0]
