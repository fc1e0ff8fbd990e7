"""Weights that are moved, cast or dequantised on use, and models with several real networks: what is skipped, where."""

from __future__ import annotations

import gc
import weakref
from collections import Counter

import comfy.model_management
import comfy.ops
import operations
import pytest
import tiny
import torch
import variants
from comfy.model_patcher import ModelPatcher, ModelPatcherDynamic
from families import FAMILIES
from operations import REST, device_reads, left_on, second_device, weight_use

GUIDANCE = ["uncond", "cond", "cached_delta", "keep"]
STEPS = 8
SETTINGS = {"gate": 4.0, "sp_interval": 2, "fi_interval": 2}
# With these, self-attention is reused in step 1 (planning) and in 5 and 7; cross-attention from step 4 on.
SKIPPED = {"attn1": [1, 5, 7], "attn2": [4, 5, 6, 7]}
LAYERS = 4 * variants.ATTENTIONS  # with weights, in all attentions of one kind of a model of one level
FP8 = torch.float8_e4m3fn

LOADED = {
    "low memory, nothing on the device": operations.low_memory,
    "low memory, a third on the device": lambda: operations.low_memory(0.3),
    "low memory with a LoRA": lambda: operations.lora(operations.low_memory(0.3)),
    "cast to bf16": lambda: variants.casting(torch.bfloat16),
    "fp8 weights": lambda: operations.stored_in(FP8, torch.float32),
    "fp8 weights, computed in bf16": lambda: operations.stored_in(FP8, torch.bfloat16),
    "fp8 matrix products": lambda: operations.stored_in(FP8, torch.float32, comfy.ops.fp8_ops),
}
WHOLE = {
    "low memory, nothing on the device": (operations.low_memory, variants.one_level),
    "low memory, a third on the device": (lambda: operations.low_memory(0.3), variants.one_level),
    "low memory with a LoRA": (
        lambda: operations.lora(operations.low_memory(0.3)),
        lambda: operations.lora(variants.one_level()),
    ),
    "fp8 weights": (
        lambda: operations.stored_in(FP8, torch.float32),
        lambda: operations.made_whole(operations.stored_in(FP8, torch.float32)),
    ),
    "quantised": (operations.quantised, lambda: operations.made_whole(operations.quantised())),
}


def expected_use(kind: str, whole: int) -> list[int]:
    """Uses of the weights of one kind of attention in each step, where `whole` are all there are."""
    return [0 if step in SKIPPED[kind] else whole for step in range(STEPS)]


@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize("make", LOADED.values(), ids=LOADED)
def test_weights_of_skipped_attentions_are_not_touched(gated, make, guidance):
    """Neither run nor cast nor moved; of all others, not one more or less than without T-GATE."""
    model = make()
    with weight_use(model) as plain:
        tiny.sample(model, steps=1)
    patched = gated(model, **SETTINGS, guidance=guidance)
    with weight_use(patched) as use:
        tiny.sample(patched, steps=STEPS)
    for name in ("forwards", "casts"):
        assert use.of(name, REST) == plain.of(name, REST) * STEPS
        for kind in SKIPPED:
            (whole,) = plain.of(name, kind)
            assert whole > 0
            assert use.of(name, kind) == expected_use(kind, whole)


@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize(("make", "make_whole"), WHOLE.values(), ids=WHOLE)
def test_how_weights_are_kept_does_not_show(gated, make, make_whole, guidance):
    settings = {**SETTINGS, "guidance": guidance}
    kept, whole = make(), make_whole()
    result = tiny.sample(gated(kept, **settings))
    assert torch.equal(result, tiny.sample(gated(whole, **settings)))
    assert not torch.equal(result, tiny.sample(kept))


@pytest.mark.parametrize("guidance", ["uncond", "keep"])
def test_skipped_layers_are_not_dequantised(gated, guidance):
    model = operations.quantised()
    tiny.sample(model, steps=1)
    once = operations.dequantisations(model)
    patched = gated(model, **SETTINGS, guidance=guidance)
    tiny.sample(patched, steps=STEPS)
    spent = operations.dequantisations(model) - once
    runs = {kind: STEPS - len(SKIPPED[kind]) for kind in SKIPPED}
    assert set(once) == {REST, *SKIPPED}
    assert spent == Counter({REST: once[REST] * STEPS, **{kind: once[kind] * runs[kind] for kind in SKIPPED}})


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_memory_that_runs_short_between_runs(gated, share):
    """A model that was loaded whole is pushed out in part, and the other way round: nothing of ours is in the way."""
    model = operations.low_memory(1.1)
    patched = gated(model, **SETTINGS)
    expected = tiny.sample(patched)
    assert not model.model.model_lowvram
    patched.partially_unload(torch.device("cpu"), int((1 - share) * model.model_size()))
    assert model.model.model_lowvram
    with weight_use(patched) as use:
        assert torch.equal(tiny.sample(patched), expected)
    assert use.of("forwards", "attn2")[4:] == [0] * 4


# --- models with several real networks -------------------------------------------------------------------------------


def other_network(patched: ModelPatcher) -> ModelPatcher:
    """A clone of a gated model on another real model, as the host's delegates and several devices have it."""
    return patched.clone(model_override=variants.one_level(seed=5).get_clone_model_override())


def multigpu_clone(patched: ModelPatcher) -> ModelPatcher:
    """The clone that the host makes for another device, from the loader's factory."""
    if not hasattr(patched, "deepclone_multigpu"):
        pytest.skip("host has no multi-GPU clones")
    patched.cached_patcher_init = (lambda seed: variants.one_level(seed=seed), (5,))
    return patched.deepclone_multigpu(new_load_device=torch.device("cpu"))


def matched_multigpu_clone(patched: ModelPatcher) -> ModelPatcher:
    """As above, made before T-GATE was put on: the host brings its settings over when sampling begins."""
    if not hasattr(patched, "match_multigpu_clones"):
        pytest.skip("host has no multi-GPU clones")
    ungated = variants.one_level(seed=5)
    ungated.is_multigpu_base_clone = True
    base = patched.clone()
    base.set_additional_models("multigpu", [ungated])
    base.match_multigpu_clones()
    (matched,) = base.get_additional_models_with_key("multigpu")
    assert matched is not ungated
    return matched


def deep_copy(patched: ModelPatcher) -> ModelPatcher:
    """A clone with its own network from the loader's factory."""
    patched.cached_patcher_init = (lambda seed, disable_dynamic=False: variants.one_level(seed=seed), (5,))
    try:
        return patched.clone(force_deepcopy=True)
    except TypeError:
        pytest.skip("host has no deep clones")


NETWORKS = [other_network, multigpu_clone, matched_multigpu_clone, deep_copy]


@pytest.mark.parametrize("guidance", ["uncond", "cached_delta"])
@pytest.mark.parametrize("clone", NETWORKS, ids=lambda clone: clone.__name__)
def test_a_clone_on_another_network_skips_its_own_modules(gated, clone, guidance):
    model, settings = variants.one_level(), {**SETTINGS, "guidance": guidance}
    patched = gated(model, **settings)
    expected = tiny.sample(patched)
    other = clone(patched)
    assert other.model is not model.model
    with weight_use(other) as used, weight_use(other, model) as untouched:
        result = tiny.sample(other)
    assert torch.equal(result, tiny.sample(gated(variants.one_level(seed=5), **settings)))
    assert set(map(len, untouched.forwards)) == {0}
    assert [used.of("forwards", kind) for kind in SKIPPED] == [expected_use(kind, LAYERS) for kind in SKIPPED]
    assert torch.equal(tiny.sample(patched), expected)


@pytest.mark.parametrize("clone", NETWORKS, ids=lambda clone: clone.__name__)
def test_both_networks_in_turns(gated, clone):
    """One run after another, on both: each is what it is alone, and unloading clears both."""
    model = variants.one_level()
    patched = gated(model, **SETTINGS)
    other = clone(patched)
    alone = [tiny.sample(gated(variants.one_level(seed=seed), **SETTINGS)) for seed in (0, 5)]
    for _ in range(2):
        for gated_model, expected in zip((patched, other), alone, strict=True):
            assert torch.equal(tiny.sample(gated_model), expected)
    comfy.model_management.unload_all_models()
    assert left_on(patched) == left_on(other) == []


class DelegatingPatcher(ModelPatcher):
    """A patcher that hands runs with weight hooks to its delegate: the host's dynamic one is for CUDA only."""

    non_dynamic_delegate_model = None
    get_non_dynamic_delegate = ModelPatcherDynamic.get_non_dynamic_delegate

    def is_dynamic(self) -> bool:
        """As the host's."""
        return True


def test_the_delegate_of_a_dynamic_patcher_skips_its_own_modules(gated):
    model = variants.one_level()
    model.__class__ = DelegatingPatcher
    model.cached_patcher_init = (lambda seed, disable_dynamic=False: variants.one_level(seed=seed), (5,))
    patched = gated(model, **SETTINGS)
    assert isinstance(patched, DelegatingPatcher)
    delegate = patched.get_non_dynamic_delegate()
    assert type(delegate) is ModelPatcher
    assert delegate.model is patched.get_non_dynamic_delegate().model is not model.model
    with weight_use(delegate) as used:
        result = tiny.sample(delegate)
    assert used.of("forwards", "attn2") == expected_use("attn2", LAYERS)
    assert torch.equal(result, tiny.sample(gated(variants.one_level(seed=5), **SETTINGS)))


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_two_devices_share_a_run(gated, guidance, counts_of, pack):
    """The host's own threads, one branch on each of two networks: each skips, captures and hands out for itself."""
    model, note = variants.one_level(), pack.core("host.run_start").SEVERAL_DEVICES
    alone = gated(model, **SETTINGS, guidance=guidance)
    expected = tiny.sample(alone)
    assert note not in counts_of(alone).notes
    second = second_device(model, variants.one_level)
    patched = gated(model, **SETTINGS, guidance=guidance)
    with weight_use(patched) as ours, weight_use(patched, second) as theirs:
        result = tiny.sample(patched)
    assert (result - expected).abs().max() < 1e-4 * expected.std()
    assert note in counts_of(patched).notes
    uses = {kind: [sum(use.of("forwards", kind)) for use in (ours, theirs)] for kind in SKIPPED}
    last = STEPS if guidance == "keep" else 4  # the gate: the second network has one branch to run until then
    for kind in SKIPPED:
        assert uses[kind] == [sum(expected_use(kind, LAYERS)[:steps]) for steps in (STEPS, last)]


# --- what stays behind -----------------------------------------------------------------------------------------------


KEPT = {
    "whole": variants.one_level,
    "low memory": operations.low_memory,
    "quantised": operations.quantised,
    "low memory with a LoRA": LOADED["low memory with a LoRA"],
}


@pytest.mark.parametrize("make", KEPT.values(), ids=KEPT)
@pytest.mark.parametrize("ending", ["finished", "failed"])
def test_unloading_takes_everything_off(gated, make, ending):
    model = make()
    state = {key: weight.clone() for key, weight in model.model.state_dict().items()}
    plain, patched = tiny.sample(model), gated(model, **SETTINGS)

    def fail(step, *_):
        if step == 5:
            raise RuntimeError("on purpose")

    if ending == "failed":
        with pytest.raises(RuntimeError, match="on purpose"):
            tiny.sample(patched, callback=fail)
    else:
        tiny.sample(patched)
    assert left_on(patched) != []
    comfy.model_management.unload_all_models()
    assert left_on(patched) == []
    assert all(torch.equal(weight, state[key]) for key, weight in model.model.state_dict().items())
    assert torch.equal(tiny.sample(model), plain)


def test_a_model_that_is_let_go_while_loaded_is_freed(gated):
    """Nothing of ours holds on to the weights: without any collection, an attention goes with its model."""
    patched = gated(variants.one_level(), **SETTINGS)
    tiny.sample(patched)
    assert left_on(patched) != []
    attention = weakref.ref(tiny.blocks(patched)[0].attn2)
    gc.collect()
    gc.disable()
    try:
        patched.model.current_patcher = None  # the host's own cycle
        del patched
        assert attention() is None
    finally:
        gc.enable()


# --- synchronisation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize("make", [variants.one_level, tiny.sd15], ids=["2 blocks", "7 blocks"])
def test_a_pass_reads_the_device_once_whatever_it_skips(gated, make, guidance):
    """Sigma, once a pass; the schedule and what came of it, once a run: no site waits for captures on their way."""
    model = make()
    plain = device_reads(model, steps=STEPS)
    patched = gated(model, **SETTINGS, guidance=guidance, cache_device="cpu")
    more = device_reads(patched, steps=STEPS) - plain
    assert more == Counter({"_local_scalar_dense": STEPS, "tolist": 2})


@pytest.mark.parametrize("name", ["PixArt-Sigma", "Wan T2V", "Cosmos 1"])
@pytest.mark.parametrize("guidance", ["uncond", "cached_delta"])
def test_a_pass_of_another_network_reads_the_device_once(gated, name, guidance):
    """Once a pass, and twice a run: the schedule before it, and what came out of it."""
    family = next(family for family in FAMILIES if family.name == name)
    model = family.make()
    patched = gated(model, **SETTINGS, guidance=guidance, cache_device="cpu")
    more = device_reads(patched, family.sample, steps=STEPS) - device_reads(model, family.sample, steps=STEPS)
    assert more == Counter({"_local_scalar_dense": STEPS, "tolist": 2})


@pytest.mark.parametrize("gate", [None, 4.0])
def test_a_pass_with_deep_cache_reads_the_device_once(gated, deep, gate):
    model = tiny.sd15()
    patched = deep(model if gate is None else gated(model, **SETTINGS), cache_interval=3)
    more = device_reads(patched, steps=STEPS) - device_reads(model, steps=STEPS)
    assert more == Counter({"_local_scalar_dense": STEPS, "tolist": 2})
