"""Networks with joint attention, and others of which no attention is frozen; LTX-2, which has two latents, as well."""

from __future__ import annotations

import functools

import comfy.nested_tensor
import comfy.utils
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from joint_families import JOINT_FAMILIES, JointFamily, VideoWithSound
from tiny import distance, split_all_conds

# Older hosts lack some of these models, or make them otherwise.
pytestmark = pytest.mark.newest

ROUNDING = 1e-5
# Of one call with two rows and two with one: some CPUs multiply those in another order.
BATCHING = 2e-4
STEPS = 12
# Of a run long enough for every preset to keep to its budget: predicted steps need some that ran.
USUAL_STEPS = 25
HELD = {"gate": 3.0, "guidance": "cached_delta", "sp_interval": 1, "cross_attention": False}
# sp_interval, fi_interval, warm_up: after the gate alone, before it alone, both.
AFTER, BEFORE, BOTH = (1, 2, 0), (2, 1, 0), (2, 2, 1)
SCHEDULES = [
    pytest.param(AFTER, "keep", id="after the gate-keep"),
    pytest.param(BEFORE, "cached_delta", id="before it-cached_delta"),
    *(pytest.param(BOTH, guidance, id=f"both-{guidance}") for guidance in ("cond", "cached_delta", "keep")),
]


@pytest.fixture(scope="module", params=JOINT_FAMILIES, ids=lambda family: family.name)
def family(request) -> JointFamily:
    if not request.param.is_available:
        pytest.skip("this host does not know the model")
    return request.param


@pytest.fixture(scope="module")
def model(family):
    return family.make()


@pytest.fixture(scope="module")
def plain(family, model):
    return family.sample(model)


@pytest.fixture(scope="module")
def plain_at(family, model):
    """Runs without T-GATE that several tests compare with, by their options."""
    return functools.cache(lambda **options: family.sample(model, **options))


def branches_of(family, patched, **options):
    """The latent, and number of branches in each network call."""
    batches = []

    def look(executor, *args, **kwargs):
        batches.append(len(args[5]["cond_or_uncond"]))
        return executor(*args, **kwargs)

    watched = patched.clone()
    watched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
    return family.sample(watched, **options), batches


@pytest.mark.parametrize(("schedule", "guidance"), SCHEDULES)
def test_joint_attention_is_reused_like_self_attention(family, model, plain, gated, schedule, guidance):
    """By whole modules, or within blocks; where that is not known, nothing is reused."""
    sp_interval, fi_interval, warm_up = schedule
    settings = {"sp_interval": sp_interval, "fi_interval": fi_interval, "warm_up": warm_up, "guidance": guidance}
    own = settings if family.is_reused else {"guidance": guidance}
    expected = family.sample(family.reference(model, gate=4, **own))
    result = family.sample(gated(model, gate=4.0, **settings))
    assert distance(result, expected) < ROUNDING
    is_changed = family.is_reused or guidance != "keep"
    assert (distance(expected, plain) > 100 * ROUNDING) == is_changed


@pytest.mark.parametrize("guidance", ["cond", "cached_delta"])
def test_guidance_is_what_the_reference_says(family, model, plain, gated, guidance):
    expected = family.sample(family.reference(model, gate=3, guidance=guidance))
    result, batches = branches_of(family, gated(model, gate=3.0, guidance=guidance, self_attention=False))
    assert distance(result, expected) < ROUNDING
    assert batches == [2] * 3 + [1] * 3
    assert distance(expected, plain) > 100 * ROUNDING


@pytest.mark.parametrize("preset", ["balanced", "gentle", "fast"])
def test_presets_drop_the_second_pass(family, model, plain_at, pack, preset):
    """Where no step can be predicted."""
    patched = pack.nodes["TGATEApply"].execute(model=model, preset=preset).args[0]
    result, batches = branches_of(family, patched, steps=STEPS, sampler="heun")
    assert torch.isfinite(result).all()
    assert set(batches) == {1, 2}
    assert not torch.equal(result, plain_at(steps=STEPS, sampler="heun"))


@pytest.mark.parametrize("preset", ["balanced", "gentle", "fast"])
def test_presets_keep_to_their_budget(family, model, plain_at, pack, preset):
    patched = pack.nodes["TGATEApply"].execute(model=model, preset=preset).args[0]
    result, batches = branches_of(family, patched, steps=USUAL_STEPS)
    assert torch.isfinite(result).all()
    assert sum(batches) <= 2 * USUAL_STEPS * pack.core("presets").BUDGETS[preset].with_flow
    assert not torch.equal(result, plain_at(steps=USUAL_STEPS))


def test_how_the_host_batches_does_not_show(family, model, gated):
    patched, factor = gated(model, **HELD), model.model.memory_usage_factor
    together = family.sample(patched)
    split_all_conds(model)
    try:
        apart = family.sample(patched)
    finally:
        model.model.memory_usage_factor = factor
    assert distance(apart, together) < BATCHING


def test_an_attention_override_sees_what_is_computed(family, model, gated):
    """Another node's, as of BlockSparseAttention and of attention backends."""
    calls = []

    def override(attention, *args, **kwargs):
        calls.append(1)
        return attention(*args, **kwargs)

    def count(patched):
        calls.clear()
        watched = patched.clone()
        watched.model_options["transformer_options"]["optimized_attention_override"] = override
        return family.sample(watched), len(calls)

    _, plain_calls = count(model)
    alone, alone_calls = count(gated(model, **HELD))
    assert torch.equal(alone, family.sample(gated(model, **HELD)))
    assert alone_calls == plain_calls
    settings = {**HELD, "fi_interval": 6}
    reused, reused_calls = count(gated(model, **settings))
    assert torch.equal(reused, family.sample(gated(model, **settings)))
    passes_options = plain_calls > 0 and family.is_reused
    assert (reused_calls < alone_calls) == passes_options


def test_off_and_cfg_1_are_bit_equal(family, model, plain, gated):
    assert torch.equal(family.sample(gated(model, gate=100.0, guidance="cached_delta")), plain)
    at_one = family.sample(gated(model, **{**HELD, "gate": 2.0}), cfg=1.0)
    assert torch.equal(at_one, family.sample(model, cfg=1.0))
    assert torch.equal(family.sample(model), plain)


def test_pictures_of_a_batch_are_what_the_reference_says(family, model, gated):
    """Each has a noise of its own. One network mixes them up where a branch runs alone: there the run is plain."""
    latent = family.empty_latent(batch=2)
    if family.name == "Hunyuan3D 2.1":
        assert torch.equal(family.sample(gated(model, **HELD), latent=latent), family.sample(model, latent=latent))
        return
    expected = family.sample(family.reference(model, gate=3, guidance="cached_delta"), latent=latent)
    result = family.sample(gated(model, **{**HELD, "cross_attention": True}), latent=latent)
    assert distance(result, expected) < ROUNDING


def test_rows_that_a_network_mixes_up_are_left_alone(gated, counts_of, pack):
    """Three conds of one branch: given alone they would change places, and each has a strength of its own."""
    family = next(one for one in JOINT_FAMILIES if one.name == "Hunyuan3D 2.1")
    positive = [item for seed, strength in enumerate((1.0, 0.2, 0.6)) for item in family.text(seed, strength=strength)]
    model = family.make()
    patched = gated(model, **HELD)
    assert torch.equal(family.sample(patched, positive=positive), family.sample(model, positive=positive))
    assert pack.core("host.architectures").ONE_AT_A_TIME in counts_of(patched).notes


class Quantized(torch.nn.Module):
    """A layer as other packs quantize it: no `nn.Linear`."""

    def __init__(self, layer):
        super().__init__()
        self.layer = [layer]

    def forward(self, x):
        """The layer's output."""
        return self.layer[0](x)


@pytest.fixture(params=["Qwen-Image", "Z-Image"])
def quantized(request):
    """A family, and a model of it whose attentions hold no layer that the host knows."""
    family = next(one for one in JOINT_FAMILIES if one.name == request.param)
    model = family.make()
    network = model.model.diffusion_model
    for parent in [module for path, module in network.named_modules() if path.endswith(("attn", "attention"))]:
        for path, layer in [(path, one) for path, one in parent.named_modules() if isinstance(one, torch.nn.Linear)]:
            holder = parent.get_submodule(path.rpartition(".")[0])
            setattr(holder, path.rpartition(".")[2], Quantized(layer))
    return family, model


@pytest.mark.parametrize("preset", ["balanced", "fast"])
def test_presets_on_layers_that_the_host_does_not_know(pack, counts_of, quantized, preset):
    family, model = quantized
    patched = pack.nodes["TGATEApply"].execute(model=model, preset=preset).args[0]
    assert torch.isfinite(family.sample(patched, steps=15)).all()
    assert counts_of(patched).skipped_passes


def test_captures_of_layers_that_the_host_does_not_know(gated, counts_of, quantized, caplog):
    """How much memory they will take cannot be told; nothing else depends on it."""
    family, model = quantized
    patched = gated(model, **{**HELD, "sp_interval": 2}, fi_interval=2)
    assert torch.isfinite(family.sample(patched, steps=STEPS)).all()
    assert counts_of(patched).attentions_reused
    assert "foreseeing" not in caplog.text


@pytest.mark.parametrize("family", [one for one in JOINT_FAMILIES if isinstance(one, VideoWithSound)], indirect=True)
def test_report_knows_a_latent_of_two(family, model, pack):
    patched = pack.nodes["TGATEApply"].execute(model=model).args[0]
    packed = family.sample(patched, steps=USUAL_STEPS)
    shapes = [(1, *family.latent), (1, *family.sound)]
    latent = {"samples": comfy.nested_tensor.NestedTensor(comfy.utils.unpack_latents(packed, shapes))}
    text = pack.nodes["TGATEReport"].execute(model=patched, latent=latent).args[1]
    assert "not one that" not in text
    other = {"samples": comfy.nested_tensor.NestedTensor(comfy.utils.unpack_latents(packed + 1, shapes))}
    assert "not one that" in pack.nodes["TGATEReport"].execute(model=patched, latent=other).args[1]
