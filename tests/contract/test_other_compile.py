"""TorchCompileModel before and after ours: what is compiled once must not decide for every later call."""

from __future__ import annotations

from itertools import pairwise

import pytest
import tiny
import torch
import variants
from families import FAMILIES
from host_nodes import host_node
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
STEPS = 4


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


@pytest.mark.slow
@pytest.mark.parametrize("order", ["ours first", "ours last"])
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"gate": 2.0, "guidance": "uncond"}, id="uncond"),
        pytest.param({"gate": 3.0, "guidance": "cached_delta", "sp_interval": 2}, id="cached_delta, sp 2"),
        pytest.param(
            {"gate": 3.0, "guidance": "keep", "sp_interval": 2, "protect_last": 1}, id="plain calls after gated ones"
        ),
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


@pytest.mark.slow
@pytest.mark.parametrize(("name", "order"), [("PixArt-Sigma", "ours first"), ("Wan T2V", "ours last")])
def test_compiled_networks_without_attention_patches(gated, name, order):
    family = next(family for family in FAMILIES if family.name == name)
    model = family.make()
    settings = {"gate": 3.0, "guidance": "uncond", "sp_interval": 2, "protect_last": 1}
    wanted = family.sample(gated(model, **settings))
    result = family.sample(beside(gated, model, order, **settings))
    assert (result - wanted).abs().max() < 1e-4 * wanted.std()
    compiled = family.sample(COMPILED(model))  # T-GATE bypassed, in the same process
    torch._dynamo.reset()
    assert torch.equal(family.sample(beside(gated, model, order, gate=100.0)), compiled)


def test_devices_that_share_a_run_leave_the_compiler_as_it_was(gated):
    """Their threads are in gated calls at the same time, and what keeps those uncompiled holds for all threads."""
    model = variants.one_level()
    second_device(model, variants.one_level)
    for _ in range(3):
        tiny.sample(gated(model, gate=2.0, guidance="keep", sp_interval=2, fi_interval=2), steps=STEPS)
    compiled = CompileCounter()
    torch.compile(torch.nn.Linear(2, 2), backend=compiled)(torch.zeros(1, 2))
    assert compiled.frame_count == 1


def test_beside_a_compiler_that_cannot_be_told_nothing_is_gated(gated, monkeypatch):
    """torch before 2.6: what it compiled once would decide for every later call."""
    model = variants.one_level()
    plain = tiny.sample(model, steps=STEPS)
    monkeypatch.delattr(torch.compiler, "set_stance")
    assert torch.equal(tiny.sample(gated(model, gate=2.0, guidance="keep"), steps=STEPS), plain)


def compiled_by_step(model, steps):
    """How many functions torch has looked at for compiling in each step of a run."""
    torch._dynamo.reset()
    counters.clear()
    marks = [0]
    tiny.sample(model, steps=steps, callback=lambda *_: marks.append(counters["frames"]["total"]))
    return [later - earlier for earlier, later in pairwise(marks)]


@pytest.mark.slow
@pytest.mark.parametrize("order", ["ours first", "ours last"])
def test_nothing_is_compiled_after_the_first_step(model, gated, order):
    """Not at the gate, not where captures are made or handed out, not in the full steps at the end; and off is off."""
    settings = {"gate": 3.0, "guidance": "uncond", "fi_interval": 2, "protect_last": 2}
    first, *later = compiled_by_step(beside(gated, model, order, **settings), steps=7)
    assert first > 0
    assert later == [0] * 6
    off, plain = (compiled_by_step(m, steps=3) for m in (beside(gated, model, order, gate=100.0), COMPILED(model)))
    assert off == plain
