"""The nodes themselves: what they refuse, what they pass through, and who wins."""

from __future__ import annotations

import asyncio
import logging

import comfy.model_base
import comfy.model_patcher
import comfy.supported_models
import execution
import numpy as np
import pytest
import server
import tiny
import torch
from comfy.patcher_extension import WrappersMP
from comfy_api.latest import io

GATES = ("TGATEApply", "TGATEApplyAdvanced")


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
        ({"refresh": "always"}, "refresh", "choose one of"),
        ({"refresh_gap": 0}, "refresh_gap", "use 1"),
        ({"refresh_tolerance": -0.1}, "refresh_tolerance", "between 0 and 2"),
        ({"cache_device": "disk"}, "cache_device", "choose one of"),
    ],
)
def test_bad_input_is_refused_by_name_with_a_remedy(model, pack, settings, name, remedy):
    with pytest.raises(ValueError, match=f"{name} is .*{remedy}"):
        pack.nodes["TGATEApplyAdvanced"].execute(model=model, **settings)


# What an any-type link can bring, and never fits.
ANYTHING = ["word", None, [1, 2], {"samples": None}, torch.zeros(2, 2), object()]


@pytest.mark.parametrize("value", ANYTHING, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize(
    ("node", "name"),
    [
        *(("TGATEApply", name) for name in ("model", "preset")),
        *(("TGATEApplyAdvanced", name) for name in ("model", "gate", "gate_unit", "sp_interval", "fi_interval")),
        *(("TGATEApplyAdvanced", name) for name in ("warm_up", "cross_attention", "self_attention", "guidance")),
        *(("TGATEApplyAdvanced", name) for name in ("refresh", "refresh_gap", "refresh_tolerance")),
        *(("TGATEApplyAdvanced", name) for name in ("protect_last", "cache_device", "cache_limit_mb", "probe")),
        *(("TGATEDeepCache", name) for name in ("model", "cache_interval", "cache_branch_id", "start", "end")),
        *(("TGATEForecast", name) for name in ("model", "strength", "start", "end")),
        *(("TGATEReport", name) for name in ("model", "latent")),
        ("TGATEProbe", "model"),
        *(("TGATEConvergencePlot", name) for name in ("probe", "tolerance")),
        ("TGATESaveProbe", "probe"),
    ],
)
def test_whatever_a_link_brings_is_refused_at_the_node_by_the_inputs_name(model, measured, pack, node, name, value):
    if (name, value) == ("probe", None) and node == "TGATEApplyAdvanced":
        pytest.skip("which is no probe connected")
    rest = {"TGATEReport": {"model": model, "latent": {}}, "TGATEConvergencePlot": {"probe": measured}}
    inputs = {**rest.get(node, {} if node == "TGATESaveProbe" else {"model": model}), name: value}
    with pytest.raises(ValueError, match=f"^TGATE: {name} is .{{1,80}}[,;] "):
        pack.nodes[node].execute(**inputs)


@pytest.fixture(scope="module")
def measured(pack, model):
    patched, probe = pack.nodes["TGATEProbe"].execute(model=model).args
    tiny.sample(patched)
    return probe


def test_half_a_step_is_refused_at_the_node(model, pack):
    with pytest.raises(ValueError, match=r"^TGATE: protect_last is 2\.5, but must be a whole number"):
        pack.nodes["TGATEApplyAdvanced"].execute(model=model, protect_last=2.5)


def test_numbers_of_another_kind_gate_the_same(model, gated):
    settings = {"gate": np.float32(4), "sp_interval": 2.0, "warm_up": np.int64(1)}
    assert torch.equal(tiny.sample(gated(model, **settings)), tiny.sample(gated(model, sp_interval=2, warm_up=1)))


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
    for name in GATES:
        with pytest.raises(ValueError, match="model has no attention"):
            pack.nodes[name].execute(model=bare)


@pytest.fixture(scope="module")
def joint():
    """A model whose text and picture share one attention."""
    shape = {"dim": 32, "n_layers": 2, "n_double_layers": 1, "n_heads": 2, "global_conddim": 32, "cond_seq_dim": 16}
    config = comfy.supported_models.AuraFlow({**shape, "dtype": torch.float32})
    device = torch.device("cpu")
    base = comfy.model_base.AuraFlow(config)
    tiny.randomise(base.diffusion_model, 0)
    return comfy.model_patcher.ModelPatcher(base, device, device)


def sample_joint(model, **options):
    return tiny.sample(model, positive=tiny.text(1, width=16), negative=tiny.text(2, width=16), **options)


def test_joint_attention_passes_through_as_published_and_says_so(pack, joint, caplog):
    caplog.set_level(logging.INFO)
    passed = pack.nodes["TGATEApplyAdvanced"].execute(model=joint).args[0]
    assert "joint attention: nothing to freeze; only guidance can be dropped" in caplog.text
    assert "guidance set to cached_delta or cond" in caplog.text
    assert passed.model is joint.model
    assert passed.wrappers == joint.wrappers
    assert passed.injections == joint.injections
    assert passed.model_options == joint.model_options


def branches_of(patched, **options):
    """The latent, and number of branches in each network call."""
    batches = []

    def look(executor, *args, **kwargs):
        batches.append(len(args[5]["cond_or_uncond"]))
        return executor(*args, **kwargs)

    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
    return sample_joint(patched, **options), batches


@pytest.mark.parametrize("guidance", ["cond", "cached_delta"])
def test_joint_attention_drops_guidance_if_asked_to(pack, joint, caplog, guidance):
    caplog.set_level(logging.INFO)
    patched = pack.nodes["TGATEApplyAdvanced"].execute(model=joint, gate=4.0, sp_interval=1, guidance=guidance).args[0]
    result, batches = branches_of(patched)
    assert batches == [2] * 4 + [1] * 4
    assert torch.isfinite(result).all()
    assert "0 of 8 attentions reused, guidance dropped in 4 evaluations" in caplog.text


@pytest.mark.parametrize("preset", ["balanced", "gentle", "fast"])
def test_presets_hold_the_guidance_difference_with_joint_attention(pack, joint, caplog, preset):
    """Where no step can be predicted."""
    patched = pack.nodes["TGATEApply"].execute(model=joint, preset=preset).args[0]
    result, batches = branches_of(patched, steps=20, sampler="heun")
    assert torch.isfinite(result).all()
    assert not torch.equal(result, sample_joint(joint, steps=20, sampler="heun"))
    assert set(batches) == {1, 2}
    with caplog.at_level(logging.INFO):
        pack.nodes["TGATEApply"].execute(model=joint, preset=preset)
    assert "joint attention: nothing to freeze; it can be reused, and guidance can be dropped" in caplog.text
    text = pack.nodes["TGATEReport"].execute(model=patched, latent={"samples": result}).args[1]
    assert "Why not more: joint attention: nothing to freeze" in text


@pytest.mark.parametrize("preset", ["balanced", "gentle", "fast"])
def test_at_cfg_1_nothing_is_left_to_save_and_the_log_says_so_first(pack, joint, caplog, preset):
    patched = pack.nodes["TGATEApply"].execute(model=joint, preset=preset).args[0]
    told = []

    def look(*_):
        told.append([line for line in caplog.messages if line.startswith("TGATE")])

    with caplog.at_level(logging.INFO):
        caplog.clear()
        result = sample_joint(patched, cfg=1.0, callback=look)
    line = "nothing is changed in this run: joint attention: nothing to freeze; cfg is 1: no second pass to save"
    assert told[0] == [f"TGATE: {line}"]
    assert sum(line in message for message in caplog.messages) == 1
    assert torch.equal(result, sample_joint(joint, cfg=1.0))


def test_two_passes_at_cfg_1_are_guidance_all_the_same(pack, joint):
    """A node that looks at both predictions asks the host to run both."""
    model = joint.clone()
    model.set_model_sampler_post_cfg_function(lambda args: args["denoised"], disable_cfg1_optimization=True)
    patched = pack.nodes["TGATEApply"].execute(model=model).args[0]
    _, batches = branches_of(patched, cfg=1.0, steps=20, sampler="heun")
    assert set(batches) == {1, 2}


def test_as_published_is_refused_where_there_is_nothing_to_freeze(pack, joint):
    with pytest.raises(ValueError, match=r"preset is 'as published'.*joint attention.*choose another preset"):
        pack.nodes["TGATEApply"].execute(model=joint, preset="as published")


def test_joint_attention_keeps_guidance_where_the_rest_would_not_know_the_prompt(pack, joint):
    patched = pack.nodes["TGATEApplyAdvanced"].execute(model=joint, gate=2.0, guidance="uncond").args[0]
    assert torch.equal(sample_joint(patched), sample_joint(joint))


@pytest.fixture
def prompt_server():
    """The host's own server, not listening; the messages that it would send are in its queue."""
    loop = asyncio.new_event_loop()
    made = server.PromptServer(loop)
    yield made
    del server.PromptServer.instance
    loop.close()


def test_what_a_node_has_to_say_is_shown_under_it(pack, joint, model, prompt_server):
    node = numbered(pack.nodes["TGATEApply"], "7")
    prompt_server.client_id = "an editor"
    node.execute(model=joint)
    node.execute(model=model)
    ((event, message, client),) = sent(prompt_server)
    assert event == server.BinaryEventTypes.TEXT
    assert message.startswith(b"\x00\x00\x00\x017joint attention: nothing to freeze")
    assert client == "an editor"


def test_the_editor_that_queued_it_hears_of_a_run(pack, model, prompt_server):
    prompt_server.client_id = "an editor"
    tiny.sample(numbered(pack.nodes["TGATEApply"], "7").execute(model=model).args[0])
    ((event, told, client),) = sent(prompt_server)
    assert (event, told["node_id"], client) == ("tgate.run", "7", "an editor")
    assert sum(group["count"] for group in told["groups"]) == 8


def test_of_a_prompt_that_no_editor_queued_none_hears(pack, joint, model, prompt_server):
    node = numbered(pack.nodes["TGATEApply"], "7")
    assert prompt_server.client_id is None
    node.execute(model=joint)
    tiny.sample(node.execute(model=model).args[0])
    assert sent(prompt_server) == []


def numbered(node, node_id):
    """A node as the server runs it, which tells it its id in the graph."""
    return node.PREPARE_CLASS_CLONE({"hidden_inputs": {io.Hidden.unique_id: node_id}})


def sent(prompt_server):
    """All that was to be sent: event, data and client, None for everyone."""
    prompt_server.loop.call_soon(prompt_server.loop.stop)
    prompt_server.loop.run_forever()  # hands what was sent from other threads to the queue
    return [prompt_server.messages.get_nowait() for _ in range(prompt_server.messages.qsize())]


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


def said_on_queue(inputs):
    """What the host's own check of a prompt says of this node's inputs, before anything runs."""
    chosen = {"model": ["2", 0], "gate": 10.0, **inputs}
    prompt = {
        "1": {"class_type": "TGATEApplyAdvanced", "inputs": chosen},
        "2": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "none.safetensors"}},
        "3": {"class_type": "TGATEConvergencePlot", "inputs": {}},
    }
    _, errors, _ = asyncio.run(execution.validate_inputs("prompt", prompt, "1", {}))
    return " ".join(error["details"] for error in errors if error["type"] == "custom_validation_failed")


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"gate_unit": "measured"}, "connect a probe"),
        ({"gate_unit": "hours"}, "gate_unit is 'hours'; choose one of: step"),
        ({"gate_unit": "measured", "probe": ["3", 3]}, ""),
        ({"gate_unit": ["3", 2]}, ""),
        ({"gate_unit": "step"}, ""),
        ({}, ""),
    ],
)
def test_a_measured_gate_without_a_probe_is_refused_on_queue(pack, inputs, said):
    assert "TGATEApplyAdvanced" in pack.nodes
    details = said_on_queue(inputs)
    assert said in details
    assert bool(details) == bool(said)
