"""Joint attention that stands inline in a block: reused by the host's override, where its place is sure."""

from __future__ import annotations

import pytest
import torch
from comfy.patcher_extension import WrappersMP
from foreign_nodes import mixed_attention, override_at_each_step
from host_nodes import host_node
from joint_families import JOINT_FAMILIES
from tiny import distance
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

# Older hosts lack some of these models, or make them otherwise.
pytestmark = pytest.mark.newest

ROUNDING = 1e-5
# What is done once a call (embeddings of time) is counted per row: it shows beside networks as tiny as these.
BESIDE_THE_ROWS = 0.05
OVERRIDE = "optimized_attention_override"
# Of those that number their blocks and of those that do not, with one attention a block and with more.
NAMES = ("Flux", "HunyuanVideo", "SD 3.5", "Mochi")
FAMILIES = [family for family in JOINT_FAMILIES if family.name in NAMES and family.is_available]
# Captured in step 0 and reused in step 1; captured in step 3, behind the gate, and reused in steps 4 and 5.
BOTH = {"gate": 3.0, "sp_interval": 2, "fi_interval": 3, "warm_up": 0, "guidance": "keep"}
ACTIVE = [True, True, False, True, True, True]


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.name)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def model(family):
    return family.make()


@pytest.fixture(scope="module")
def flux():
    return next(family for family in FAMILIES if family.name == "Flux")


def on_model(model):
    """It is on the model when sampling begins, as attention backends are."""
    patched = model.clone()
    patched.model_options["transformer_options"][OVERRIDE] = mixed_attention
    return patched


@pytest.mark.parametrize("is_before", [True, False], ids=["before", "behind"])
@pytest.mark.parametrize("node", [on_model, override_at_each_step])
def test_the_override_of_another_node_computes(family, model, gated, node, is_before):
    expected = family.sample(node(family.reference(model, **BOTH | {"gate": 3})))
    patched = gated(node(model), **BOTH) if is_before else node(gated(model, **BOTH))
    assert distance(family.sample(patched), expected) < ROUNDING
    assert distance(expected, family.sample(family.reference(model, **BOTH | {"gate": 3}))) > 100 * ROUNDING


def options_of_calls(family, patched):
    """The options that the network is given, call by call."""
    seen = []
    network = patched.model.diffusion_model
    hook = network.register_forward_pre_hook(
        lambda _network, _args, kwargs: seen.append(kwargs["transformer_options"]), with_kwargs=True
    )
    try:
        family.sample(patched)
    finally:
        hook.remove()
    return seen


def test_only_calls_that_capture_or_reuse_get_an_override(family, model, gated):
    options = options_of_calls(family, gated(model, **BOTH))
    assert [OVERRIDE in given for given in options] == ACTIVE
    plain = options_of_calls(family, model)
    assert [given.keys() == own.keys() for given, own in zip(options, plain, strict=True)] == [not on for on in ACTIVE]
    held = options_of_calls(family, gated(model, gate=3.0, guidance="cached_delta", sp_interval=1))
    assert not any(OVERRIDE in given or "patches_replace" in given for given in held)


def replaced(model, replacement, number=0):
    patched = model.clone()
    patched.set_model_patch_replace(replacement, "dit", "double_block", number)
    return patched


def test_a_replaced_block_is_reused_at_its_own_place(family, model, gated):
    def louder(args, extra):
        out = extra["original_block"](args)
        return {**out, "img": out["img"] * 1.1}

    expected = family.sample(replaced(family.reference(model, **BOTH | {"gate": 3}), louder))
    for patched in (gated(replaced(model, louder), **BOTH), replaced(gated(model, **BOTH), louder)):
        assert distance(family.sample(patched), expected) < ROUNDING


def test_a_patch_that_writes_into_the_output_leaves_the_capture_as_it_is(flux, gated):
    def node(model):
        patched = model.clone()
        patched.set_model_patch(lambda output, _options: output.mul_(0.5), "attn1_output_patch")
        return patched

    model = flux.make()
    expected = flux.sample(node(flux.reference(model, **BOTH | {"gate": 3})))
    for patched in (gated(node(model), **BOTH), node(gated(model, **BOTH))):
        assert distance(flux.sample(patched), expected) < ROUNDING


def test_a_block_that_is_left_out_moves_no_other(family, model, gated):
    """In the calls that reuse: blocks behind it must not be given what is the one's before."""

    def node(model):
        calls = []

        def left_out(args, extra):
            calls.append(1)
            is_left_out = len(calls) % 6 in (2, 5)
            return {"img": args["img"], "txt": args["txt"]} if is_left_out else extra["original_block"](args)

        return replaced(model, left_out)

    expected = family.sample(node(family.reference(model, **BOTH | {"gate": 3})))
    assert distance(family.sample(node(gated(model, **BOTH))), expected) < ROUNDING


def test_a_block_that_runs_twice_has_no_place(family, model, gated, counts_of, pack):
    def twice(args, extra):
        extra["original_block"]({**args, "img": args["img"].clone(), "txt": args["txt"].clone()})
        return extra["original_block"](args)

    patched = replaced(gated(model, **BOTH), twice)
    assert distance(family.sample(patched), family.sample(replaced(model, twice))) < ROUNDING
    assert counts_of(patched).attentions_reused == 0
    assert pack.core("engine.reasons").RUN_TWICE in counts_of(patched).notes


def test_an_override_that_calls_no_other_is_not_reached_and_that_is_said(flux, gated, counts_of, pack):
    """Put in behind ours, where the network is wrapped."""

    def alone(executor, *args, **kwargs):
        *before, options = args
        return executor(*before, {**options, OVERRIDE: mixed_attention}, **kwargs)

    def node(model):
        patched = model.clone()
        patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "alone", alone)
        return patched

    model = flux.make()
    patched = node(gated(model, **BOTH))
    assert torch.equal(flux.sample(patched), flux.sample(node(model)))
    assert counts_of(patched).attentions_reused == 0
    assert pack.core("engine.reasons").UNREACHED in counts_of(patched).notes


def test_compiled_networks_reuse_it_uncompiled(flux, gated, counts_of, pack):
    model = flux.make()
    compiled = host_node("nodes_torch_compile", "TorchCompileModel", backend="eager")(model)
    patched = gated(compiled, **BOTH)
    assert distance(flux.sample(patched), flux.sample(gated(model, **BOTH))) < 1e-4
    assert pack.core("host.compiled_calls").INLINE in counts_of(patched).notes


def test_attentions_are_counted(family, model, gated, counts_of, pack):
    """Those that ran and those that were reused, of all calls."""
    patched = gated(model, **BOTH)
    family.sample(patched)
    sites = pack.core("host.networks").inline_attentions(model.model.diffusion_model)
    a_call, counts = sum(map(len, sites.values())), counts_of(patched)
    assert counts.attentions_reused == 3 * a_call
    assert counts.attentions_computed == 3 * a_call
    assert counts.notes == [pack.core("host.architectures").JOINT_ATTENTION]


def test_the_report_counts_the_products_that_were_left_out(family, model, gated, pack):
    """Beside the layers, all of which run."""
    macs = []

    def products(attention, q, k, v, *args, **kwargs):
        macs.append(2 * q.numel() * k.shape[-2])
        return attention(q, k, v, *args, **kwargs)

    def layers(module, inputs, output):
        if isinstance(module, nn.Linear):
            macs.append(inputs[0].numel() * module.out_features)
        elif isinstance(module, nn.Conv2d | nn.Conv3d):
            macs.append(output.numel() * module.weight[0].numel())

    def seen(patched):
        macs.clear()
        watched = patched.clone()
        watched.model_options["transformer_options"][OVERRIDE] = products
        hook = register_module_forward_hook(layers)
        try:
            family.sample(watched)
        finally:
            hook.remove()
        return sum(macs)

    patched = gated(model, **BOTH)
    made, plain = seen(patched), seen(model)
    cost = pack.core("host.costs").count_run(patched, pack.core("host.install").records_of(patched).last)
    assert cost.made == pytest.approx(made, rel=BESIDE_THE_ROWS)
    assert cost.plain == pytest.approx(plain, rel=BESIDE_THE_ROWS)
    assert cost.plain - cost.made == pytest.approx(plain - made, rel=1e-6)


def test_captures_take_what_was_foreseen(family, model, gated, counts_of, pack):
    """But for the tokens of the text."""
    patched = gated(model, **BOTH)
    family.sample(patched)
    core = pack.core("host.architectures")
    network, tokens = model.model.diffusion_model, family.latent[1:]
    known = core.architecture_of(network)
    foreseen = 2 * 4 * known.inline_outputs(network, tokens)
    picture = known.token_count(network, tokens)
    assert foreseen <= counts_of(patched).peak_cache_bytes <= foreseen * (picture + 8) / picture


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("is_flat", [False, True])
def test_the_form_of_an_output_is_known_ahead(pack, is_flat, skips):
    attention = pytest.importorskip("comfy.ldm.modules.attention").attention_pytorch
    q, k, v = torch.rand(3, 2, 3, 5, 4)
    if is_flat:
        q, k, v = (one.transpose(1, 2).reshape(2, 5, 12) for one in (q, k, v))
    options = {"skip_reshape": not is_flat, "skip_output_reshape": skips}
    form = pack.core("host.inline").output_form(q, k, v, 3, **options)
    output = attention(q, k, v, 3, **options)
    assert (form.shape, form.dtype, form.device) == (output.shape, output.dtype, output.device)
