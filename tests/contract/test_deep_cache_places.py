"""DeepCache with control, tiles, context windows and torch.compile, and the memory it takes."""

from __future__ import annotations

import pytest
import tiny
import torch
import unet_kin
import variants
from block_record import block_recording
from comfy.patcher_extension import WrappersMP
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_context_windows import ContextWindowsManualNode
from controls import KINDS, TWO_BLOCKS, applied, applied_to_one_side, chained, controlnet
from host_nodes import call_node, host_class, host_node
from record import with_runs
from reference import reference
from tiling import TILINGS, tiled, wandering
from tiny import distance
from torch._dynamo.testing import CompileCounter
from torch._dynamo.utils import counters

EXACT = 1e-5  # of the latent's spread
FELT = 1e-4
STEPS = 6
TWO_LEVELS = {"num_res_blocks": [2, 2], "transformer_depth": [1] * 4, "transformer_depth_output": [1] * 6}
COMPILED = host_node("nodes_torch_compile", "TorchCompileModel", backend="eager")


@pytest.fixture(scope="module")
def model():
    return tiny.sd15()


@pytest.fixture(scope="module")
def controlled():
    """A model of three blocks: of its controls, shallow steps take the outer two on the way out."""
    return variants.one_level(**TWO_BLOCKS)


class TakenControl:
    """What a network takes of its control in each call, and what it does with the rest."""

    def __init__(self):
        self.taken = []

    def watch(self, executor, *args, **kwargs):
        """DIFFUSION_MODEL wrapper: x, timesteps, context, y, control, transformer_options."""
        before = {name: list(tensors) for name, tensors in (args[4] or {}).items()}
        output = executor(*args, **kwargs)
        after = {name: sum(t is not None for t in tensors) for name, tensors in (args[4] or {}).items()}
        assert not any(after.values())
        self.taken.append({name: sum(t is not None for t in tensors) for name, tensors in before.items()})
        return output


@pytest.mark.parametrize("order", ["ours first", "ours last"])
@pytest.mark.parametrize("apply", [applied, applied_to_one_side, chained])
@pytest.mark.parametrize("kind", KINDS)
def test_control_of_the_blocks_that_run(controlled, deep, caplog, kind, apply, order):
    run = {**apply(kind()), "steps": STEPS}
    taken = TakenControl()
    watched = deep(controlled) if order == "ours first" else controlled.clone()
    watched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "watch", taken.watch)
    patched = watched if order == "ours first" else deep(watched)
    with block_recording(controlled, patched) as record:
        result = tiny.sample(patched, **run)
    assert "s" in record.depths
    assert "could not be applied" not in caplog.text
    assert any(sum(given.values()) for given in taken.taken)
    assert distance(result, tiny.sample(reference(controlled, interval=3), **run)) < EXACT
    assert distance(result, tiny.sample(deep(controlled), steps=STEPS)) > FELT


@pytest.mark.parametrize("guidance", ["uncond", "cached_delta", "keep"])
def test_control_with_both(controlled, deep, gated, caplog, guidance):
    run = {**applied(controlnet()), "steps": STEPS}
    patched = gated(deep(controlled), gate=4.0, guidance=guidance)
    result = tiny.sample(patched, **run)
    assert distance(result, tiny.sample(reference(controlled, 4, guidance, interval=3), **run)) < EXACT
    assert "could not be applied" not in caplog.text


@pytest.mark.parametrize("has_gate", [False, True])
@pytest.mark.parametrize("strips_of_step", TILINGS.values(), ids=TILINGS)
def test_every_tile_is_its_own_sampling(model, deep, gated, has_gate, strips_of_step):
    drawn = tiny.noise(3, width=16)
    patched = gated(deep(model), gate=4.0, sp_interval=2) if has_gate else deep(model)
    with block_recording(model, split := tiled(patched, strips_of_step)) as record:
        result = tiny.sample(split, drawn=drawn)
    assert record.depths == "FFssssFFssssFFss"
    strips = sorted(strips_of_step(0))
    alone = [tiny.sample(patched, drawn=drawn[..., start : start + width]) for start, width in strips]
    assert distance(result, torch.cat(alone, dim=-1)) < 1e-4


def test_tiles_that_wander_are_computed_in_full(model, deep):
    drawn = tiny.noise(3, width=16)
    plain = tiny.sample(tiled(model, wandering), drawn=drawn, steps=4)
    assert torch.equal(tiny.sample(tiled(deep(model), wandering), drawn=drawn, steps=4), plain)


def tiled_within(model):
    """A node that runs the network on two halves within one call, after all wrappers that could tell them apart."""

    def halves(executor, x, *args, **kwargs):
        return torch.cat([executor(half.contiguous(), *args, **kwargs) for half in x.chunk(2, dim=-1)], dim=-1)

    patched = model.clone()
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "halves", halves)
    return patched


def split_within(model):
    """A node that runs each row of a batch on its own within one call."""

    def rows(executor, x, timesteps, context, y, control, options, **kwargs):
        parts = zip(x.split(1), timesteps.split(1), context.split(1), strict=True)
        return torch.cat([executor(*part, y, control, options, **kwargs) for part in parts])

    patched = model.clone()
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "rows", rows)
    return patched


def test_a_network_run_several_times_in_a_call_is_computed_in_full(model, deep):
    drawn = tiny.noise(3, width=16)
    plain = tiny.sample(tiled_within(model), drawn=drawn, steps=4)
    assert torch.equal(tiny.sample(tiled_within(deep(model)), drawn=drawn, steps=4), plain)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_batch_that_another_node_splits_is_computed_in_full(model, deep, batch):
    drawn = tiny.noise(3, batch=batch)
    plain = tiny.sample(split_within(model), drawn=drawn, steps=4)
    assert torch.equal(tiny.sample(split_within(deep(model)), drawn=drawn, steps=4), plain)


@pytest.mark.parametrize("has_gate", [False, True])
@pytest.mark.parametrize("kind", ["frames apart", "frames attend to each other"])
def test_every_window_is_its_own_sampling(deep, gated, has_gate, kind):
    """Windows of 4 frames that do not overlap, the last one shorter."""
    model = variants.one_level() if kind == "frames apart" else variants.svd()
    inputs = {"context_schedule": "batched", "fuse_method": "pyramid", "freenoise": False, "causal_window_fix": False}
    lengths = {"context_length": 4, "context_overlap": 0, "context_stride": 1, "closed_loop": True, "dim": 0}
    patched = gated(deep(model), gate=4.0) if has_gate else deep(model)
    windowed = call_node(ContextWindowsManualNode, model=patched, **inputs, **lengths)
    drawn = tiny.noise(3, 10, 4, 4)
    with block_recording(model, windowed) as record:
        result = tiny.sample(windowed, drawn=drawn, steps=STEPS)
    assert record.depths == "FFFssssssFFFssssss"
    alone = torch.cat([tiny.sample(patched, drawn=window, steps=STEPS) for window in drawn.split(4)])
    assert distance(result, alone) < 1e-4


@pytest.mark.parametrize("batch", [1, 3])
def test_what_is_kept_is_one_feature_a_cond(model, deep, batch):
    """What enters the second to last block: 32 channels of the latent's size, in fp32; 64 one block before."""
    drawn = tiny.noise(3, batch=batch)
    feature = batch * 64 * 8 * 8 * 4
    patched, runs = with_runs(deep(model))
    tiny.sample(patched, drawn=drawn)
    assert runs[0].counts.peak_cache_bytes == 2 * feature
    patched, runs = with_runs(deep(model, cache_interval=2))
    tiny.sample(patched, drawn=drawn, cfg=1.0)
    statistics = runs[0].counts
    assert statistics.peak_cache_bytes == feature
    assert (statistics.network_calls, statistics.shallow_calls) == (8, 4)


@pytest.mark.parametrize("branch", range(5))
@pytest.mark.parametrize("name", ["two blocks a level", "ssd_1b", "koala", "svd"])
def test_what_is_kept_is_foreseen(pack, deep, name, branch):
    if name == "svd":
        model = variants.svd()
    else:
        model = tiny.sd15(**TWO_LEVELS) if name == "two blocks a level" else getattr(unet_kin, name)()
    drawn = tiny.noise(3, batch=2, height=10, width=7)
    positive, negative = (tiny.text(seed, pooled_output=torch.ones(1, 1280)) for seed in (1, 2))
    patched, runs = with_runs(deep(model, cache_branch_id=branch))
    tiny.sample(patched, drawn=drawn, steps=2, positive=positive, negative=negative)
    foreseen = pack.core("host.unet_blocks").feature_size(model.model.diffusion_model, branch, 10, 7)
    assert runs[0].counts.peak_cache_bytes == 2 * 2 * foreseen * 4


def test_the_host_is_told_before_it_loads_the_model(model, deep, gated):
    """What is kept is asked for as a larger latent, by DeepCache alone and beside T-GATE's captures."""
    asked = []

    def look(executor, patcher, noise_shape, *args, **kwargs):
        asked.append(patcher.model.memory_required(noise_shape))
        return executor(patcher, noise_shape, *args, **kwargs)

    def needed(patched):
        observed = patched.clone()
        observed.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, "look", look)
        tiny.sample(observed, steps=4)
        return asked.pop()

    feature = 2 * 64 * 8 * 8 * 4
    assert needed(deep(model)) - needed(model) == pytest.approx(feature, rel=0.01)
    gate = gated(model, gate=2.0)
    assert needed(deep(gate)) - needed(gate) == pytest.approx(feature, rel=0.01)


@pytest.fixture
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.parametrize(("order", "has_gate"), [("ours first", True), ("ours last", False)])
def test_compiled_gives_what_uncompiled_gives(deep, gated, pack, fresh_compiler, order, has_gate):
    """Plain calls of the whole network are compiled, others say that they are not: neither runs the other's code."""
    model = variants.one_level(transformer_depth=[0])

    def ours(model):
        patched = deep(model, cache_interval=2, end=0.8)
        return gated(patched, gate=3.0, sp_interval=2, protect_last=1) if has_gate else patched

    with block_recording(model, uncompiled := ours(model)) as expected:
        wanted = tiny.sample(uncompiled, steps=STEPS)
    patched = COMPILED(ours(model)) if order == "ours first" else ours(COMPILED(model))
    with block_recording(model, patched) as record:
        result = tiny.sample(patched, steps=STEPS)
    assert record.depths.count("s") == expected.depths.count("s") == 2
    assert distance(result, wanted) < 1e-4
    notes = pack.core("host.install").records_of(patched).last.counts.notes
    assert pack.core("host.compiled_calls").IN_DEPTH in notes
    # Bypassed afterwards, in the same process: what was compiled with it must not ask for what is no longer there.
    assert torch.isfinite(tiny.sample(COMPILED(model), steps=STEPS)).all()


@pytest.mark.slow
@pytest.mark.newest
@pytest.mark.parametrize("has_gate", [True, False])
def test_single_blocks_stay_compiled(deep, gated, pack, fresh_compiler, has_gate):
    """One graph a phase, none later; blocks that are left out are met by no call."""
    model, steps, counter = variants.one_level(), 6, CompileCounter()
    names = {block: name for name, block in model.model.diffusion_model.named_modules()}
    keys = [f"diffusion_model.{names[block]}" for block in tiny.blocks(model)]

    def ours(model):
        patched = deep(model, cache_interval=2, end=0.8)
        return gated(patched, gate=3.0, self_attention=False, protect_last=1) if has_gate else patched

    with block_recording(model, uncompiled := ours(model)) as expected:
        wanted = tiny.sample(uncompiled, steps=steps)
    compiled = model.clone()
    options = {"guard_filter_fn": host_class("comfy_extras.nodes_torch_compile", "skip_torch_compile_dict")}
    set_torch_compile_wrapper(compiled, counter, options=options, keys=keys)
    counters.clear()
    result = tiny.sample(patched := ours(compiled), steps=steps)
    assert distance(result, wanted) < 1e-4
    made = counter.frame_count
    assert made > 0
    assert torch.equal(tiny.sample(patched, steps=steps), result)
    assert counter.frame_count == made
    assert not counters["graph_break"]
    counts = [pack.core("host.install").records_of(one).last.counts for one in (patched, uncompiled)]
    assert counts[0].notes == counts[1].notes
    for name in ("network_calls", "attentions_computed", "attentions_reused", "peak_cache_bytes"):
        assert getattr(counts[0], name) == getattr(counts[1], name)
    with block_recording(model, patched) as record:  # its hooks are something new to the compiler
        tiny.sample(patched, steps=steps)
    assert record.depths == expected.depths
    assert record.depths.count("s") >= 2
