"""TorchCompileModel before and after ours: what is compiled once must not decide for every later call."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import foreign_nodes
import pytest
import tiny
import torch
import variants
from comfy.patcher_extension import WrappersMP
from comfy_api.torch_helpers import set_torch_compile_wrapper
from families import FAMILIES
from host_nodes import host_class, host_node
from joint_families import JOINT_FAMILIES
from operations import second_device
from record import recording
from torch._dynamo.testing import CompileCounter
from torch._dynamo.utils import counters

# One attention block in the middle: tracing takes seconds a block.
ONE_BLOCK = {
    "num_res_blocks": [1],
    "channel_mult": [1],
    "transformer_depth": [0],
    "transformer_depth_output": [0, 0],
    "transformer_depth_middle": 1,
}
# Traces and guards like the backends that the node offers, and leaves out the code generation.
COMPILED = host_node("nodes_torch_compile", "TorchCompileModel", backend="eager")
COMPILE_KEY = "torch.compile"
STEPS = 4
TIMEOUT = 120


@pytest.fixture(scope="module")
def model():
    return tiny.sd15(**ONE_BLOCK)


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def beside(gated, model, order, **settings):
    return COMPILED(gated(model, **settings)) if order == "ours first" else gated(COMPILED(model), **settings)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["ours first", "ours last"])
def test_compiled_and_off(model, gated, order):
    expected = tiny.sample(COMPILED(model), steps=STEPS)
    torch._dynamo.reset()
    assert torch.equal(tiny.sample(beside(gated, model, order, gate=100.0), steps=STEPS), expected)


UNCOND = {"gate": 2.0, "guidance": "uncond"}
DELTA = {"gate": 3.0, "guidance": "cached_delta", "sp_interval": 2}
PLAIN_AGAIN = {"gate": 3.0, "guidance": "keep", "sp_interval": 2, "protect_last": 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "order"),
    [
        pytest.param(UNCOND, "ours last", id="uncond-ours last"),
        pytest.param(DELTA, "ours first", id="cached_delta, sp 2-ours first"),
        pytest.param(PLAIN_AGAIN, "ours first", id="plain calls after gated ones-ours first"),
        pytest.param(PLAIN_AGAIN, "ours last", id="plain calls after gated ones-ours last"),
    ],
)
def test_compiled_gives_what_uncompiled_gives(model, gated, settings, order):
    """The node's compiler is told not to look at transformer_options again: a plan of ours must not be frozen in."""
    with recording(model, uncompiled := gated(model, **settings)) as expected:
        wanted = tiny.sample(uncompiled, steps=STEPS)
    with recording(model, patched := beside(gated, model, order, **settings)) as record:
        result = tiny.sample(patched, steps=STEPS)
    assert record.calls == expected.calls
    assert (result - wanted).abs().max() < 1e-4 * wanted.std()
    # Bypassed afterwards, in the same process: what was compiled with it must not ask for what is no longer there.
    assert torch.isfinite(tiny.sample(COMPILED(model), steps=STEPS)).all()


def one_block(name):
    """A family with a network of one block."""
    family = next(family for family in FAMILIES if family.name == name)
    (number,) = family.network.keys() & {"depth", "num_layers", "num_blocks"}
    return replace(family, network={**family.network, number: 1})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "order"), [("PixArt-Sigma", "ours first"), ("Wan T2V", "ours last"), ("Cosmos 1", "ours last")]
)
def test_compiled_networks_without_attention_patches(gated, name, order):
    family = one_block(name)
    model = family.make()
    settings = {"gate": 3.0, "guidance": "uncond", "sp_interval": 2, "protect_last": 1}
    wanted = family.sample(gated(model, **settings))
    result = family.sample(beside(gated, model, order, **settings))
    assert (result - wanted).abs().max() < 1e-4 * wanted.std()
    compiled = family.sample(COMPILED(model))  # T-GATE bypassed, in the same process
    torch._dynamo.reset()
    assert torch.equal(family.sample(beside(gated, model, order, gate=100.0)), compiled)


def compiles():
    """Whether torch compiles what it is asked to."""
    counter = CompileCounter()
    torch.compile(torch.nn.Linear(2, 2), backend=counter)(torch.zeros(1, 2))
    return counter.frame_count == 1


def test_devices_that_share_a_run_leave_the_compiler_as_it_was(gated):
    """Their threads are in gated calls at the same time."""
    model = variants.one_level()
    second_device(model, variants.one_level)
    for _ in range(3):
        tiny.sample(gated(model, gate=2.0, guidance="keep", sp_interval=2, fi_interval=2), steps=STEPS)
    assert compiles()


@pytest.mark.parametrize("is_compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_runs_that_overlap_in_two_threads_leave_the_compiler_as_it_was(gated, is_compiled):
    """The second begins a gated call within one of the first, and ends it after the first run is over."""
    assert compiles()  # here first: torch 2.11 crashes where the first to compile is a thread that has ended since
    models = [tiny.sd15(seed, **ONE_BLOCK) for seed in (0, 5)]
    patched = [gated(COMPILED(m) if is_compiled else m, gate=2.0, guidance="uncond") for m in models]
    expected = [tiny.sample(gated(m, gate=2.0, guidance="uncond"), steps=STEPS) for m in models]
    is_inside = [threading.Event(), threading.Event()]
    first_is_over = threading.Event()
    within = []

    def overlapping(mine, other):
        def wrapper(executor, *args, **kwargs):
            step = int((args[5]["sample_sigmas"][:-1] - args[5]["sigmas"][0]).abs().argmin())
            if step == 2 and not is_inside[mine].is_set():  # the first step after the gate
                is_inside[mine].set()
                assert (is_inside[other] if mine == 0 else first_is_over).wait(TIMEOUT)
                within.append(compiles())
            return executor(*args, **kwargs)

        return wrapper

    def first():
        try:
            return tiny.sample(patched[0], steps=STEPS)
        finally:
            first_is_over.set()

    def second():
        assert is_inside[0].wait(TIMEOUT)
        return tiny.sample(patched[1], steps=STEPS)

    for mine, other in ((0, 1), (1, 0)):
        patched[mine].add_wrapper_with_key(WrappersMP.APPLY_MODEL, "overlapping", overlapping(mine, other))
    with ThreadPoolExecutor(2) as threads:
        results = [task.result(TIMEOUT) for task in [threads.submit(first), threads.submit(second)]]
    for result, wanted in zip(results, expected, strict=True):
        assert (result - wanted).abs().max() < 1e-4 * wanted.std()
    assert compiles()
    assert within == [True, True]


def test_the_compiler_is_told_nothing(gated, monkeypatch):
    """Whatever it is told holds for all threads; and before torch 2.6 it cannot be told to stand aside."""
    model = variants.one_level()
    expected = tiny.sample(gated(model, gate=2.0, guidance="keep"), steps=STEPS)
    assert not torch.equal(expected, tiny.sample(model, steps=STEPS))
    monkeypatch.delattr(torch.compiler, "set_stance")
    assert torch.equal(tiny.sample(gated(model, gate=2.0, guidance="keep"), steps=STEPS), expected)


@pytest.mark.parametrize("guidance", ["uncond", "keep"])
def test_another_nodes_compiled_function_stays_compiled_in_gated_calls(gated, guidance):
    """As of an attention kernel, which alone fits into memory when compiled."""
    model, counter = variants.one_level(), CompileCounter()
    patched = gated(model, gate=2.0, guidance=guidance)
    expected = tiny.sample(patched, steps=STEPS)
    kernel = torch.compile(torch.nn.functional.scaled_dot_product_attention, backend=counter)
    ran = []

    def override(attention, q, k, v, heads, *args, **kwargs):
        ran.append(counter.frame_count)
        split = [t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v)]
        return kernel(*split).transpose(1, 2).flatten(2)

    other = patched.clone()
    other.model_options["transformer_options"]["optimized_attention_override"] = override
    result = tiny.sample(other, steps=STEPS)
    assert (result - expected).abs().max() < 1e-4 * expected.std()
    assert ran
    assert counter.frame_count > 0


def compiled_whole(model):
    """As compile nodes did it before the host had wrappers."""
    patched = model.clone()
    compiled = torch.compile(patched.get_model_object("diffusion_model"), backend="eager")
    patched.add_object_patch("diffusion_model", compiled)
    return patched


def compiled_block(model):
    """One block, as a module that stands in for it."""
    patched, name = model.clone(), "diffusion_model.middle_block.1.transformer_blocks.0"
    patched.add_object_patch(name, torch.compile(patched.get_model_object(name), backend="eager"))
    return patched


def compiled_method(model):
    """One block's forward."""
    patched, name = model.clone(), "diffusion_model.middle_block.1.transformer_blocks.0.forward"
    patched.add_object_patch(name, torch.compile(patched.get_model_object(name), backend="eager"))
    return patched


def compiled_for_good(model):
    """One block, by the module's own method."""
    tiny.blocks(model)[0].compile(backend="eager")
    return model.clone()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("compiled", "guidance"),
    [
        *((compiled_whole, guidance) for guidance in ("uncond", "cached_delta", "keep")),
        *((compiled_block, guidance) for guidance in ("uncond", "keep")),
        (compiled_method, "cached_delta"),
        *((compiled_for_good, guidance) for guidance in ("uncond", "cached_delta")),
    ],
)
def test_a_network_compiled_in_place_is_not_gated(gated, pack, compiled, guidance):
    """Its calls cannot run uncompiled, so nothing is captured, and a branch that needs captures is not dropped."""
    model = tiny.sd15(**ONE_BLOCK)
    wanted = tiny.sample(model, steps=STEPS)
    if (compiled, guidance) == (compiled_whole, "cached_delta"):
        # As on any other network whose attentions are not known: the guidance that is held needs no captures.
        guidance_alone = {"cross_attention": False, "self_attention": False}
        wanted = tiny.sample(gated(model, gate=2.0, guidance=guidance, **guidance_alone), steps=STEPS)
    patched = compiled(gated(model, gate=2.0, guidance=guidance))
    result = tiny.sample(patched, steps=STEPS)
    assert (result - wanted).abs().max() < 1e-4 * wanted.std()
    notes = pack.core("host.install").records_of(patched).last.counts.notes
    assert any("compiled the network in place" in note for note in notes), notes
    assert compiles()


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [compiled_whole, compiled_for_good])
def test_steps_are_predicted_on_a_network_compiled_in_place(pack, compiled):
    model, steps = tiny.sd15(**ONE_BLOCK), 25
    uncompiled = pack.nodes["TGATEApply"].execute(model=model).args[0]
    wanted, patched = tiny.sample(uncompiled, steps=steps), compiled(uncompiled)
    result = tiny.sample(patched, steps=steps)
    counts = pack.core("host.install").records_of(patched).last.counts
    assert counts.skipped_passes == 10
    assert (result - wanted).abs().max() < 1e-4 * wanted.std()
    assert compiles()


@pytest.mark.slow
def test_blocks_that_are_compiled_for_each_call_are_gated(gated):
    """Compiled blocks are in the network while a full step runs; that says nothing of the steps that are gated."""
    model, settings = tiny.sd15(**ONE_BLOCK), {"gate": 3.0, "guidance": "uncond"}
    with recording(model, uncompiled := gated(model, **settings)) as expected:
        wanted = tiny.sample(uncompiled, steps=STEPS)
    patched = gated(model, **settings)
    set_torch_compile_wrapper(patched, "eager", keys=["diffusion_model.middle_block.1.transformer_blocks.0"])
    with recording(model, patched) as record:
        result = tiny.sample(patched, steps=STEPS)
    assert record.calls == expected.calls
    assert (result - wanted).abs().max() < 1e-4 * wanted.std()


@pytest.mark.slow
@pytest.mark.parametrize("order", ["ours first", "ours last"])
def test_a_compile_wrapper_of_another_name_gives_no_wrong_picture(gated, order):
    """It is not known for what it is, so its compiled network is met with a plan of ours."""
    model = tiny.sd15(**ONE_BLOCK)

    def compiled(model):
        patched = COMPILED(model)
        (wrapper,) = patched.wrappers[WrappersMP.APPLY_MODEL].pop(COMPILE_KEY)
        patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "another node", wrapper)
        return patched

    settings = {"gate": 3.0, "guidance": "uncond", "sp_interval": 2}
    patched = compiled(gated(model, **settings)) if order == "ours first" else gated(compiled(model), **settings)
    wanted = tiny.sample(model, steps=STEPS)
    for _ in range(2):
        assert (tiny.sample(patched, steps=STEPS) - wanted).abs().max() < 1e-4 * wanted.std()


BLOCK = "diffusion_model.middle_block.1.transformer_blocks.0"


def compiled_in(model, counter, keys=()):
    """As compile nodes do it that take blocks, or the whole network."""
    patched = model.clone()
    options = {"guard_filter_fn": host_class("comfy_extras.nodes_torch_compile", "skip_torch_compile_dict")}
    set_torch_compile_wrapper(patched, counter, options=options, keys=list(keys))
    return patched


def graphs_by_step(sample, model, counter, steps):
    """How many graphs each step of a run compiled."""
    marks = [counter.frame_count]
    sample(model, steps=steps, callback=lambda *_: marks.append(counter.frame_count))
    return [later - earlier for earlier, later in pairwise(marks)]


def joint_network(name):
    """A network with joint attention, how it is sampled, and its blocks."""
    family = next(family for family in JOINT_FAMILIES if family.name == name)
    model = family.make()
    (blocks,) = [found for found in ("transformer_blocks", "layers") if hasattr(model.model.diffusion_model, found)]
    names = [f"diffusion_model.{blocks}.{number}" for number in range(family.network.get("num_layers", 2))]
    return model, family.sample, names


@pytest.mark.slow
@pytest.mark.newest
@pytest.mark.parametrize("is_whole", [True, False], ids=["whole", "blocks"])
@pytest.mark.parametrize("name", ["Qwen-Image", "Lumina 2"])
def test_joint_attention_stays_compiled(gated, pack, name, is_whole):
    """In one stream, and in two that go in and come out apart."""
    model, sample, blocks = joint_network(name)
    keys, counter = () if is_whole else blocks, CompileCounter()
    settings = {"gate": 3.0, "guidance": "keep", "sp_interval": 2, "fi_interval": 2, "protect_last": 1}
    wanted = sample(uncompiled := gated(model, **settings), steps=8)
    plain = compiled_in(model, counter, keys)
    sample(plain, steps=2)
    counters.clear()
    patched = gated(compiled_in(model, counter, keys), **settings)
    # One graph in which attention is kept, one in which it is given; plain steps have theirs.
    assert graphs_by_step(sample, patched, counter, 8) == [1, 1, 0, 0, 0, 0, 0, 0]
    assert graphs_by_step(sample, patched, counter, 8) == [0] * 8
    assert not counters["graph_break"]
    assert tiny.distance(sample(patched, steps=8), wanted) < 1e-4
    counts = [pack.core("host.install").records_of(m).last.counts for m in (patched, uncompiled)]
    assert counts[0].notes == counts[1].notes
    assert counts[0].attentions_reused == counts[1].attentions_reused > 0
    for name in ("network_calls", "attentions_computed", "peak_cache_bytes"):
        assert getattr(counts[0], name) == getattr(counts[1], name)


def networks():
    """A UNet and a DiT, how they are sampled, and the blocks that are compiled where it is not the whole network."""
    family = next(family for family in FAMILIES if family.name == "PixArt-Sigma")
    dit = family.make()
    blocks = [f"diffusion_model.blocks.{number}" for number in range(len(dit.model.diffusion_model.blocks))]
    return {"UNet": (tiny.sd15(**ONE_BLOCK), tiny.sample, [BLOCK]), "DiT": (dit, family.sample, blocks)}


# Settings, and the graphs that each step compiles. Step by step, of self- and cross-attention: capture compute, reuse
# compute, compute capture, capture reuse, reuse reuse, capture reuse, compute reuse, and the last one plain.
EVERY_PHASE = (
    {"gate": 3.0, "guidance": "keep", "sp_interval": 2, "fi_interval": 2, "protect_last": 1},
    [1, 1, 1, 1, 1, 0, 1, 0],
)
# Plain, compute capture, capture reuse, reuse reuse, plain: of a whole network torch follows the code for seconds.
MAIN_PHASES = (
    {"gate": 2.0, "guidance": "keep", "sp_interval": 1, "fi_interval": 2, "protect_last": 1},
    [0, 1, 1, 1, 0],
)


@pytest.mark.slow
@pytest.mark.parametrize("is_whole", [True, False], ids=["whole", "blocks"])
@pytest.mark.parametrize("name", ["UNet", "DiT"])
def test_one_graph_a_phase_and_none_later(gated, pack, name, is_whole):
    """Nor in the next run. No graph is broken, and plain steps take the graph that runs without T-GATE have made."""
    model, sample, blocks = networks()[name]
    keys, counter = () if is_whole else blocks, CompileCounter()
    settings, graphs = EVERY_PHASE if not is_whole else MAIN_PHASES
    steps = len(graphs)
    with recording(model, uncompiled := gated(model, **settings)):
        wanted = sample(uncompiled, steps=steps)
    counters.clear()
    plain = compiled_in(model, counter, keys)
    assert graphs_by_step(sample, plain, counter, 3) == [1, 0, 0]
    patched = gated(compiled_in(model, counter, keys), **settings)
    assert graphs_by_step(sample, patched, counter, steps) == graphs
    assert graphs_by_step(sample, patched, counter, steps) == [0] * steps
    assert graphs_by_step(sample, plain, counter, 3) == [0] * 3
    assert not counters["graph_break"]
    assert tiny.distance(sample(patched, steps=steps), wanted) < 1e-4
    counts = [pack.core("host.install").records_of(m).last.counts for m in (patched, uncompiled)]
    assert counts[0].notes == counts[1].notes == []
    for name in ("network_calls", "attentions_computed", "attentions_reused", "peak_cache_bytes"):
        assert getattr(counts[0], name) == getattr(counts[1], name)


def preset_networks():
    """How each is sampled, and what is compiled of it: presets predict steps, hold a difference, or do both."""
    unet, flow = tiny.sd15(**ONE_BLOCK), one_block("Wan T2V")
    blocks = ["diffusion_model.blocks.0"]
    return {
        "UNet, predicted": (unet, tiny.sample, [BLOCK], {}),
        "UNet, held": (unet, tiny.sample, [BLOCK], {"sampler": "uni_pc"}),
        "DiT, rectified flow": (flow.make(), flow.sample, blocks, {}),
        "DiT, rectified flow, whole": (flow.make(), flow.sample, [], {}),
    }


def watched_phases(patched):
    """A clone, and of each of its network calls what decides which graph it takes: actions, and rows."""
    phases = []

    def look(executor, *args, **kwargs):
        plan = args[5]["tgate_pass"].plan
        phases.append((len(args[0]), *plan.actions.values()))
        return executor(*args, **kwargs)

    clone = patched.clone()
    clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "phases", look)
    return clone, phases


@pytest.mark.slow
@pytest.mark.newest
@pytest.mark.parametrize(
    ("name", "preset"),
    [
        ("UNet, predicted", "balanced"),
        ("UNet, held", "balanced"),
        ("DiT, rectified flow", "balanced"),
        ("DiT, rectified flow", "fast"),
        ("DiT, rectified flow, whole", "as published"),
    ],
)
def test_presets_take_one_graph_a_phase_and_none_later(pack, name, preset):
    """Also in runs in which the network is not called in some steps, and in which guided steps come again."""
    (model, sample, keys, options), counter, steps = preset_networks()[name], CompileCounter(), 12
    apply = pack.nodes["TGATEApply"].execute
    counters.clear()
    wanted = sample(uncompiled := apply(model=model, preset=preset).args[0], steps=steps, **options)
    patched, phases = watched_phases(apply(model=compiled_in(model, counter, keys), preset=preset).args[0])
    made, compiled, at = [], [], [0, 0]

    def end_step(*_):
        made.append(phases[at[0] :])
        compiled.append(counter.frame_count - at[1])
        at[:] = len(phases), counter.frame_count

    result = sample(patched, steps=steps, callback=end_step, **options)
    met = [phase for step in made for phase in step]
    assert len(set(met)) > (1 if name != "UNet, predicted" else 0)
    assert ([] in made) == (preset != "as published" and name != "UNet, held")
    known = set()
    for step, graphs in zip(made, compiled, strict=True):
        assert graphs <= len({*step} - known), made
        known |= {*step}
    assert not counters["graph_break"]
    before = counter.frame_count
    assert tiny.distance(sample(patched, steps=steps, **options), wanted) < 1e-4
    assert counter.frame_count == before
    assert tiny.distance(result, wanted) < 1e-4
    assert not counters["graph_break"]
    counts = [pack.core("host.install").records_of(m).last.counts for m in (patched, uncompiled)]
    assert counts[0].notes == counts[1].notes
    assert counts[0].attentions_reused == counts[1].attentions_reused


def network_wrapper(model):
    """A wrapper of the network that does nothing."""
    patched = model.clone()
    patched.add_wrapper_with_key(
        WrappersMP.DIFFUSION_MODEL, "another node", lambda executor, *a, **k: executor(*a, **k)
    )
    return patched


def limited_cache(pack, monkeypatch):
    """No room for the second of the captures of a network."""
    monkeypatch.setattr(pack.core("engine.cache").CaptureCache, "_has_room_for", lambda self, *_: self.nbytes == 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("node", "reason"),
    [
        pytest.param(foreign_nodes.in_place_output_patch, "OTHER_HOOKS", id="patches at attentions"),
        pytest.param(foreign_nodes.forward_injection, "NOT_AT_HAND", id="forwards wrapped"),
        pytest.param(network_wrapper, "OTHER_HOOKS", id="network wrapped"),
        pytest.param(limited_cache, "NOT_AT_HAND", id="captures missing"),
    ],
)
def test_what_cannot_be_compiled_runs_uncompiled_and_says_why(gated, pack, monkeypatch, node, reason):
    model, counter, keys = variants.one_level(), CompileCounter(), [BLOCK]
    settings = {"gate": 2.0, "guidance": "uncond", "sp_interval": 2}
    if node is limited_cache:
        node(pack, monkeypatch)
    other = model if node is limited_cache else node(model)
    with recording(model, uncompiled := gated(other, **settings)) as expected:
        wanted = tiny.sample(uncompiled, steps=STEPS)
    patched = gated(compiled_in(other, counter, keys), **settings)
    with recording(model, patched) as record:
        result = tiny.sample(patched, steps=STEPS)
    assert record.calls == expected.calls
    assert tiny.distance(result, wanted) < 1e-4
    notes = pack.core("host.install").records_of(patched).last.counts.notes
    assert getattr(pack.core("host.compiled_calls"), reason) in notes


@pytest.mark.slow
def test_a_network_that_runs_again_in_compiled_code_is_noticed(gated, pack):
    """Then captures have no place: the call's are forgotten, and what was reused is computed anew."""
    model = foreign_nodes.rows_one_by_one(tiny.sd15(**ONE_BLOCK))
    settings = {"gate": 2.0, "guidance": "keep", "sp_interval": 2}
    wanted = tiny.sample(model, steps=STEPS)
    patched = gated(compiled_in(model, CompileCounter()), **settings)
    assert tiny.distance(tiny.sample(patched, steps=STEPS), wanted) < 1e-4
    record = pack.core("host.install").records_of(patched).last
    assert record.counts.attentions_reused == 0
    assert pack.core("engine.reasons").RUN_TWICE in record.counts.notes


@pytest.mark.parametrize("names", [("x",), ("x", "text")], ids=["one stream", "picture and text"])
def test_a_capture_of_another_form_is_not_given_in_compiled_code(pack, names):
    """As where another node shrinks what is in the network: the attention is computed, and that is noticed."""
    calls, rule = pack.core("host.compiled_calls"), pack.core("host.architectures").SiteRule("attn2", "")
    slot = SimpleNamespace(is_met=False, is_met_again=False, has_misfit=False, rule=rule, input_names=names)
    slot.original = lambda x, text=None: 2 * x if text is None else (2 * x, 2 * text)
    give = torch.compile(lambda slot, *streams: calls._give(slot, *streams), backend="eager", dynamic=False)
    for tokens, is_given in ((2, True), (3, False)):
        slot.given, slot.is_met, slot.has_misfit = torch.ones(1, 2 * len(names), 4), False, False
        streams = [torch.full((1, count, 4), 0.25) for count in (tokens, 2)[: len(names)]]
        made = give(slot, *streams)
        for got, stream in zip([made] if len(names) == 1 else made, streams, strict=True):
            assert torch.equal(got, torch.ones(1, 2, 4) if is_given else 2 * stream)
        assert (slot.is_met, slot.is_met_again, slot.has_misfit) == (True, False, not is_given)
    give(slot, *streams)
    assert slot.is_met_again


@pytest.mark.slow
def test_inductor_captures_and_reuses(gated, pack):
    """The compiler that people use, on the smallest of networks: what it keeps is not written to later."""
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler")
    family = one_block("PixArt-Sigma")
    # Two graphs: in one attention is kept, in the other it is given.
    model, settings = family.make(), {"gate": 1.0, "guidance": "cond", "self_attention": False}
    with torch.inference_mode():
        wanted = family.sample(gated(model, **settings), steps=STEPS)
        blocks = ["diffusion_model.blocks.0"]
        result = family.sample(patched := gated(compiled_in(model, "inductor", blocks), **settings), steps=STEPS)
    assert tiny.distance(result, wanted) < 1e-4
    counts = pack.core("host.install").records_of(patched).last.counts
    assert counts.attentions_reused > 0
    assert counts.notes == []
