"""Weights that are moved, cast or dequantised on use, and models with several real networks: what is skipped, where."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Callable

import comfy.model_management
import comfy.ops
import operations
import pytest
import tiny
import torch
import variants
from comfy.model_patcher import ModelPatcher, ModelPatcherDynamic
from operations import REST, weight_use
from record import recording
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

GUIDANCE = ["uncond", "cond", "cached_delta", "keep"]
STEPS = 8
SETTINGS = {"gate": 4.0, "sp_interval": 2, "fi_interval": 2}
# With these, self-attention is reused in step 1 (planning) and in 5 and 7; cross-attention from step 4 on.
SKIPPED = {"attn1": [1, 5, 7], "attn2": [4, 5, 6, 7]}
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
    "low memory, nothing on the device": (operations.low_memory, tiny.sd15),
    "low memory, a third on the device": (lambda: operations.low_memory(0.3), tiny.sd15),
    "low memory with a LoRA": (
        lambda: operations.lora(operations.low_memory(0.3)),
        lambda: operations.lora(tiny.sd15()),
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
    return patched.clone(model_override=tiny.sd15(seed=5).get_clone_model_override())


def multigpu_clone(patched: ModelPatcher) -> ModelPatcher:
    """The clone that the host makes for another device, from the loader's factory."""
    if not hasattr(patched, "deepclone_multigpu"):
        pytest.skip("host has no multi-GPU clones")
    patched.cached_patcher_init = (tiny.sd15, (5,))
    return patched.deepclone_multigpu(new_load_device=torch.device("cpu"))


def matched_multigpu_clone(patched: ModelPatcher) -> ModelPatcher:
    """As above, made before T-GATE was put on: the host brings its settings over when sampling begins."""
    if not hasattr(patched, "match_multigpu_clones"):
        pytest.skip("host has no multi-GPU clones")
    ungated = tiny.sd15(seed=5)
    ungated.is_multigpu_base_clone = True
    base = patched.clone()
    base.set_additional_models("multigpu", [ungated])
    base.match_multigpu_clones()
    (matched,) = base.get_additional_models_with_key("multigpu")
    assert matched is not ungated
    return matched


def deep_copy(patched: ModelPatcher) -> ModelPatcher:
    """A clone with its own network from the loader's factory."""
    patched.cached_patcher_init = (lambda seed, disable_dynamic=False: tiny.sd15(seed), (5,))
    try:
        return patched.clone(force_deepcopy=True)
    except TypeError:
        pytest.skip("host has no deep clones")


NETWORKS = [other_network, multigpu_clone, matched_multigpu_clone, deep_copy]


@pytest.mark.parametrize("guidance", ["uncond", "cached_delta"])
@pytest.mark.parametrize("clone", NETWORKS, ids=lambda clone: clone.__name__)
def test_a_clone_on_another_network_skips_its_own_modules(gated, clone, guidance):
    model, settings = tiny.sd15(), {**SETTINGS, "guidance": guidance}
    patched = gated(model, **settings)
    expected = tiny.sample(patched)
    other = clone(patched)
    assert other.model is not model.model
    with weight_use(other) as used, weight_use(other, model) as untouched:
        result = tiny.sample(other)
    assert torch.equal(result, tiny.sample(gated(tiny.sd15(seed=5), **settings)))
    assert set(map(len, untouched.forwards)) == {0}
    assert [used.of("forwards", kind) for kind in SKIPPED] == [expected_use(kind, 28) for kind in SKIPPED]
    assert torch.equal(tiny.sample(patched), expected)


@pytest.mark.parametrize("clone", NETWORKS, ids=lambda clone: clone.__name__)
def test_both_networks_in_turns(gated, clone):
    """One run after another, on both: each is what it is alone, and unloading clears both."""
    model = tiny.sd15()
    patched = gated(model, **SETTINGS)
    other = clone(patched)
    alone = [tiny.sample(gated(tiny.sd15(seed=seed), **SETTINGS)) for seed in (0, 5)]
    for _ in range(2):
        assert [torch.equal(tiny.sample(one), result) for one, result in zip((patched, other), alone, strict=True)] == [
            True,
            True,
        ]
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
    model = tiny.sd15()
    model.__class__ = DelegatingPatcher
    model.cached_patcher_init = (lambda seed, disable_dynamic=False: tiny.sd15(seed), (5,))
    patched = gated(model, **SETTINGS)
    assert isinstance(patched, DelegatingPatcher)
    delegate = patched.get_non_dynamic_delegate()
    assert type(delegate) is ModelPatcher
    assert delegate.model is patched.get_non_dynamic_delegate().model is not model.model
    with weight_use(delegate) as used:
        result = tiny.sample(delegate)
    assert used.of("forwards", "attn2") == expected_use("attn2", 28)
    assert torch.equal(result, tiny.sample(gated(tiny.sd15(seed=5), **SETTINGS)))


# --- what stays behind -----------------------------------------------------------------------------------------------


def left_on(patcher: ModelPatcher) -> list[str]:
    """Attention modules, by name, on which something is left."""
    attentions = [
        (name, module)
        for name, module in patcher.model.diffusion_model.named_modules()
        if name.rsplit(".", 1)[-1] in ("attn1", "attn2")
    ]
    assert attentions
    return [name for name, module in attentions if "forward" in module.__dict__]


@pytest.mark.parametrize(
    "make",
    [tiny.sd15, operations.low_memory, operations.quantised, lambda: operations.lora(operations.low_memory(0.3))],
    ids=["whole", "low memory", "quantised", "low memory with a LoRA"],
)
@pytest.mark.parametrize("ending", ["finished", "failed"])
def test_unloading_takes_everything_off(gated, make, ending):
    model = make()
    plain, patched = tiny.sample(model), gated(model, **SETTINGS)
    state = {key: weight.clone() for key, weight in model.model.state_dict().items()}

    def fail(step, *_):
        if ending == "failed" and step == 5:
            raise RuntimeError("on purpose")

    try:
        tiny.sample(patched, callback=fail)
    except RuntimeError as error:
        assert str(error) == "on purpose"
    assert left_on(patched) != []
    comfy.model_management.unload_all_models()
    assert left_on(patched) == []
    assert all(torch.equal(weight, state[key]) for key, weight in model.model.state_dict().items())
    assert torch.equal(tiny.sample(model), plain)


def test_a_model_that_is_let_go_is_freed(gated):
    """Nothing of ours keeps the weights: when the host has unloaded the model, its attentions go with it."""
    patched = gated(tiny.sd15(), **SETTINGS)
    tiny.sample(patched)
    attention = weakref.ref(tiny.blocks(patched)[0].attn2)
    comfy.model_management.unload_all_models()
    gc.collect()
    gc.disable()
    try:
        patched.model.current_patcher = None
        del patched
        assert attention() is None
    finally:
        gc.enable()


# --- synchronisation -------------------------------------------------------------------------------------------------

SYNCHRONISING = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "unique", "masked_select", "argwhere")
READING = (torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.cpu, torch.Tensor.__bool__, torch.Tensor.item)


class ReadCounter(TorchDispatchMode):
    """Counts operations that have to wait for a device: reading a value, or a size that depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name.startswith(SYNCHRONISING):
            self.reads[name] += 1
        return func(*args, **(kwargs or {}))


class ConversionCounter(TorchFunctionMode):
    """Counts what hands a tensor to Python without an operation on the way, as `tolist` does."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[str] = Counter()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in READING:
            self.reads[func.__name__] += 1
        return func(*args, **(kwargs or {}))


def reads_of(patched: ModelPatcher) -> Counter[str]:
    with ConversionCounter() as conversions, ReadCounter() as operations_:
        tiny.sample(patched, steps=STEPS)
    return conversions.reads + operations_.reads


@pytest.mark.parametrize("cache_device", ["model", "cpu", "auto"])
@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize("make", [variants.one_level, tiny.sd15], ids=["2 blocks", "7 blocks"])
def test_a_pass_reads_the_device_once_whatever_it_skips(gated, make, guidance, cache_device):
    """Sigma, once a pass, and the schedule, once a run: no read a site, so no wait for captures on their way."""
    model = make()
    plain = reads_of(model)
    patched = gated(model, **SETTINGS, guidance=guidance, cache_device=cache_device)
    more = reads_of(patched) - plain
    assert more == Counter({"_local_scalar_dense": STEPS, "tolist": 1})
