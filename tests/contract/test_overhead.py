"""What T-GATE costs: a skipped attention no operation at all, a run without it nothing, its memory the captures."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext

import pytest
import tiny
import torch
from comfy.patcher_extension import PatcherInjection, WrappersMP
from families import FAMILIES
from operations import left_on
from overhead import calls_of_ours, held_bytes, operations_by_step, operations_of
from record import recording

from tgate_dev.bench.timing.networks import without_attentions

pytestmark = pytest.mark.newest

STEPS = 8
GATE = 4
GUIDANCE = ["uncond", "cond", "cached_delta", "keep"]
# Operations have other names in other modes of torch, so they are looked up: of reading sigma, once a pass; of keeping
# the captures of one cond of two, at each site; of the difference that stands for guidance, made and applied.
READING = operations_of(lambda x: float(x.flatten()[0]), 2)
KEEPING_ONE = operations_of(lambda x: x.chunk(2)[0].clone(), 2, 2)
COMPARED = operations_of(lambda x: (x - x) / 2.0, 2, 2)
GUIDED = operations_of(lambda x: x - x * 2.0, 2, 2)
MOVED = operations_of(lambda x: x.movedim(1, 0), 2, 2)
# Another node's wrapper and patches may cost what they like: these are T-GATE's own Python functions, per block of a
# UNet with one attention computed and one handed out, and per step beside that.
CALLS_A_BLOCK = 28
CALLS_A_STEP = 190
FAMILY_IDS = [family.name for family in FAMILIES]


@pytest.fixture(scope="module")
def model():
    return tiny.sd15()


def depth(blocks):
    """A model whose only transformer blocks are in its middle."""
    return tiny.sd15(
        num_res_blocks=[1],
        channel_mult=[1],
        transformer_depth=[0],
        transformer_depth_output=[0, 0],
        transformer_depth_middle=blocks,
    )


# --- off -------------------------------------------------------------------------------------------------------------


OFF = {
    "gate beyond the run": {"gate": 100.0, "sp_interval": 3},
    "gate at its end": {"gate": float(STEPS)},
    "all protected": {"gate": 2.0, "self_attention": False, "guidance": "keep", "protect_last": STEPS},
}


@pytest.mark.parametrize("settings", OFF.values(), ids=OFF)
def test_off_costs_nothing(model, gated, settings):
    """Not one operation more, and not one call of ours between the first step and the last."""
    patched = gated(model, **settings)
    tiny.sample(gated(model))  # what a run that is gated puts on the modules must not be left in the way
    assert operations_by_step(tiny.sample, patched) == operations_by_step(tiny.sample, model)
    assert calls_of_ours(tiny.sample, patched) == Counter()
    assert calls_of_ours(tiny.sample, gated(model))  # as it would look


@pytest.mark.parametrize("family", FAMILIES, ids=FAMILY_IDS)
def test_off_costs_nothing_in_any_network(gated, family):
    if not family.is_available:
        pytest.skip("host does not know the model")
    model = family.make()
    patched = gated(model, gate=100.0)
    ours, theirs = (operations_by_step(family.sample, m, steps=3) for m in (patched, model))
    assert ours == theirs
    assert calls_of_ours(family.sample, patched, steps=3) == Counter()


def test_deep_cache_that_is_off_for_a_run_costs_nothing(model, deep):
    patched = deep(model, cache_interval=3, start=0.95)
    assert operations_by_step(tiny.sample, patched) == operations_by_step(tiny.sample, model)
    assert calls_of_ours(tiny.sample, patched) == Counter()


@pytest.mark.parametrize("ending", ["finished", "failed in a step", "failed once loaded"])
def test_the_next_run_is_gated_again(model, gated, ending):
    """Stand-ins that were taken off for a run that is over before the gate are back after it, whatever became of it."""
    patched = gated(model, gate=float(GATE))
    with recording(model, patched) as expected:
        tiny.sample(patched)
    stand_ins, left = left_on(patched), []

    def end_step(step, *_):
        left.append(left_on(patched))
        if ending == "failed in a step" and step == 1:
            raise RuntimeError("on purpose")

    def end_loading(executor, *args, **kwargs):
        executor(*args, **kwargs)
        left.append(left_on(patched))
        raise RuntimeError("on purpose")

    failing = patched.clone()
    if ending == "failed once loaded":
        failing.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, "failing", end_loading)
    with nullcontext() if ending == "finished" else pytest.raises(RuntimeError, match="on purpose"):
        tiny.sample(failing, steps=GATE, callback=end_step)
    assert left
    assert not any(left)
    assert left_on(patched) == stand_ins  # where the host takes them to be
    with recording(model, patched) as record:
        tiny.sample(patched)
    assert record.calls == expected.calls
    assert record.per_call("cross_attention")[GATE:] == [0] * (STEPS - GATE)


def test_stand_ins_that_others_have_wrapped_stay(model, gated):
    """Taken off from under another node's wrapper they would come back in another order, and never go."""
    patched = gated(model, gate=100.0)
    calls = []
    attention = tiny.blocks(model)[0].attn2

    def inject(_patcher):
        inner = attention.forward

        def wrapped(*args, **kwargs):
            calls.append(1)
            return inner(*args, **kwargs)

        wrapped.inner = inner
        attention.forward = wrapped

    def eject(_patcher):
        attention.forward = attention.forward.inner

    patched.set_injections("other node", [PatcherInjection(inject=inject, eject=eject)])
    assert torch.equal(tiny.sample(patched), tiny.sample(model))
    assert len(calls) == STEPS
    assert left_on(model) == []


# --- on --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [("attn2",), ("attn1", "attn2")], ids=["cross", "both"])
@pytest.mark.parametrize("guidance", GUIDANCE)
def test_a_gated_step_does_what_is_left_and_reads_sigma(model, gated, pack, guidance, kinds):
    """The oracle is the same network without those attentions: nothing can do less."""
    interval = {"sp_interval": STEPS, "fi_interval": STEPS} if "attn1" in kinds else {}
    patched = gated(model, gate=float(GATE), guidance=guidance, **interval)
    ours = operations_by_step(tiny.sample, patched)
    with without_attentions(model.model.diffusion_model, kinds, pack.nodes):
        least = operations_by_step(tiny.sample, model, cfg=5.0 if guidance == "keep" else 1.0)
    guided = GUIDED if guidance == "cached_delta" else Counter()
    for step in range(GATE, STEPS - 1):  # the list leaves out step 0
        assert ours[step] == least[step] + READING + guided, step


@pytest.mark.parametrize("family", FAMILIES, ids=FAMILY_IDS)
def test_a_gated_step_of_any_network(gated, pack, family):
    if not family.is_available:
        pytest.skip("host does not know the model")
    model = family.make()
    ours = operations_by_step(family.sample, gated(model, gate=2.0, self_attention=False), steps=4)
    with without_attentions(model.model.diffusion_model, {"attn2"}, pack.nodes):
        least = operations_by_step(family.sample, model, steps=4, cfg=1.0)
    more = ours[-1] - least[-1] - READING  # the first gated step merges captures as well
    # Attentions that do not have the batch outermost are seen through a view of their input, and of the capture.
    assert set(more) <= (set(MOVED) if family.batch_dim else set())
    assert least[-1] - ours[-1] == Counter()


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_before_the_gate_nothing_is_done_but_reading_sigma_and_keeping(model, gated, guidance):
    """Captures of all conds of a call are kept as they are; of one alone, a copy that lets go of the others."""
    ours = operations_by_step(tiny.sample, gated(model, gate=float(GATE), guidance=guidance))
    plain = operations_by_step(tiny.sample, model)
    sites = len(tiny.blocks(model))
    keeping = Counter()
    if guidance in ("cond", "cached_delta"):
        keeping += Counter({name: count * sites for name, count in KEEPING_ONE.items()})
    if guidance == "cached_delta":
        keeping += COMPARED
    for step in range(GATE - 1):
        is_last = step == GATE - 2
        assert ours[step] == plain[step] + READING + (keeping if is_last else Counter()), step


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_python_of_a_site(gated, guidance):
    """Calls of our functions in gated steps: so many a block and a step. A graphics card waits for each of them."""

    def calls(blocks):
        patched = gated(depth(blocks), gate=1.0, guidance=guidance, self_attention=False)
        return calls_of_ours(tiny.sample, patched, after=1, steps=6).total() / 4

    one, three = calls(1), calls(3)
    a_block = (three - one) / 2
    assert a_block <= CALLS_A_BLOCK
    assert one - a_block <= CALLS_A_STEP


# --- memory ----------------------------------------------------------------------------------------------------------

HELD = {
    "uncond": {"guidance": "uncond"},
    "cond": {"guidance": "cond"},
    "cond_mean": {"guidance": "cond_mean"},
    "cached_delta": {"guidance": "cached_delta"},
    "keep": {"guidance": "keep"},
    "self-attention before the gate": {"guidance": "uncond", "sp_interval": 2},
    "self-attention throughout": {"guidance": "uncond", "sp_interval": 2, "fi_interval": 2},
    "self-attention, cached_delta": {"guidance": "cached_delta", "sp_interval": 2, "fi_interval": 2},
    "protected end": {"guidance": "uncond", "protect_last": 2},
}


def assert_nothing_but_captures(plain, held, latent_bytes):
    """Beside the captures, at most the one latent by which the dropped branch is replaced."""
    assert held.peak_captures > 0
    assert held.peak - plain.peak <= held.peak_captures * 1.02
    extra = [ours - theirs for ours, theirs in zip(held.after_step, plain.after_step, strict=True)]
    for step, (more, captures) in enumerate(zip(extra, held.captures_after_step, strict=True)):
        assert more <= captures + latent_bytes, step


@pytest.mark.parametrize("settings", HELD.values(), ids=HELD)
def test_memory_is_that_of_the_captures(model, gated, settings):
    """Counted by what operations allocate and let go, not by T-GATE itself; at the peak and after every step."""
    plain, held = (held_bytes(tiny.sample, m) for m in (model, gated(model, gate=float(GATE), **settings)))
    assert_nothing_but_captures(plain, held, 4 * 8 * 8 * 4 if settings["guidance"] == "cached_delta" else 0)


def test_merging_lets_go_of_what_was_merged(model, gated):
    held = held_bytes(tiny.sample, gated(model, gate=float(GATE), guidance="uncond"))
    plain = held_bytes(tiny.sample, model)
    before, after = (held.after_step[step] - plain.after_step[step] for step in (GATE - 1, GATE))
    assert before == held.peak_captures
    assert after * 2 == before


@pytest.mark.parametrize("gate", [None, 4.0])
def test_memory_of_deep_cache(model, gated, deep, gate):
    patched = model if gate is None else gated(model, gate=gate, sp_interval=2)
    plain, held = (held_bytes(tiny.sample, m) for m in (model, deep(patched, cache_interval=3)))
    assert_nothing_but_captures(plain, held, 0)


@pytest.mark.parametrize("family", FAMILIES, ids=FAMILY_IDS)
def test_memory_in_any_network(gated, family):
    """What an attention returns may be a part of something larger, which a capture would keep alive."""
    if not family.is_available:
        pytest.skip("host does not know the model")
    model = family.make()
    patched = gated(model, gate=2.0, sp_interval=2, fi_interval=2)
    plain, held = (held_bytes(family.sample, m, steps=4) for m in (model, patched))
    assert_nothing_but_captures(plain, held, 0)
