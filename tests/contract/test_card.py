"""What code does on a graphics card alone: what travels between it and the CPU's memory, and what is waited for."""

from __future__ import annotations

from collections import Counter

import comfy.model_management
import pytest
import tiny
import torch
import variants
from card import CPU, card, sampled
from families import FAMILIES
from operations import attention_layers, stored_in

from tgate_dev.bench.timing.weights import LoadedInPart

pytestmark = pytest.mark.newest

STEPS = 8
SETTINGS = {"gate": 4.0, "sp_interval": 2, "fi_interval": 2}
# With these, in each step: captures that are stored (self-attention in 0, 4 and 6, cross-attention in 3), and those
# that are reused (self-attention in 1, 5 and 7, cross-attention from 4 on). There are two attentions of each kind.
STORED = [2, 0, 0, 2, 2, 0, 2, 0]
REUSED = [0, 2, 0, 0, 2, 4, 2, 4]
# The mean of both branches is made of captures that come back to the card, and is stored as they are.
MERGED = [2, 0, 0, 2, 4, 0, 2, 0], [0, 2, 0, 0, 6, 4, 2, 4]
READ = {"_local_scalar_dense": 1}  # sigma
FP8 = torch.float8_e4m3fn


@pytest.fixture
def there():
    with card() as found:
        yield found


@pytest.fixture(scope="module")
def plain():
    with card() as found:
        return sampled(tiny.sample, variants.one_level(), found, steps=STEPS)


def more_waits(run, plain):
    """What each step of a run waits for that the plain one does not."""
    return [dict(step.waits - other.waits) for step, other in zip(run.steps, plain.steps, strict=True)]


def test_the_card_does_what_the_processor_does(there, plain, gated):
    """And notes what travels: a plain run takes its weights there once, and the text in each step."""
    model = variants.one_level()
    weights = sum(weight.numel() * weight.element_size() for weight in model.model.diffusion_model.parameters())
    assert weights <= sum(plain.steps[0].up) < 1.1 * weights
    assert {tuple(step.up) for step in plain.steps[1:]} == {(2 * 8 * tiny.CONTEXT * 4,)}
    assert tiny.distance(plain.result, tiny.sample(model, steps=STEPS)) < 1e-4
    run = sampled(tiny.sample, gated(variants.one_level(), **SETTINGS), there, steps=STEPS)
    assert tiny.distance(run.result, tiny.sample(gated(model, **SETTINGS), steps=STEPS)) < 1e-4
    with pytest.raises(RuntimeError, match="same device"):
        torch.ones(2, device="cuda") + torch.ones(2)


@pytest.mark.parametrize("device", ["auto", "model"])
@pytest.mark.parametrize("guidance", ["uncond", "cached_delta", "keep"])
def test_captures_beside_the_model_do_not_travel(there, plain, gated, guidance, device):
    patched = gated(variants.one_level(), **SETTINGS, guidance=guidance, cache_device=device)
    run = sampled(tiny.sample, patched, there, steps=STEPS)
    assert not any(step.down or step.pinned for step in run.steps)
    assert all(sum(step.up) <= sum(other.up) for step, other in zip(run.steps, plain.steps, strict=True))
    assert more_waits(run, plain) == [READ] * STEPS


@pytest.mark.parametrize("guidance", ["uncond", "cond", "cached_delta", "keep"])
def test_captures_in_the_computers_memory_travel_once_and_are_pinned_once(there, plain, gated, guidance):
    """Down where they are stored, up where they are reused, and nothing waits for either."""
    patched = [
        gated(variants.one_level(), **SETTINGS, guidance=guidance, cache_device=device) for device in ("model", "cpu")
    ]
    beside, run = [sampled(tiny.sample, one, there, steps=STEPS) for one in patched]
    stored, reused = MERGED if guidance == "uncond" else (STORED, REUSED)
    assert [len(step.down) for step in run.steps] == stored
    assert [step.pinned for step in run.steps] == [step.down for step in run.steps]
    up = [len(step.up) - len(other.up) for step, other in zip(run.steps, beside.steps, strict=True)]
    assert up == reused
    assert more_waits(run, plain) == [READ] * STEPS
    assert torch.equal(run.result, beside.result)


def test_captures_move_where_the_cards_memory_runs_short(there, gated):
    def fill(step):
        if step == 2:
            there.free_bytes = comfy.model_management.minimum_inference_memory() - 1

    settings = {"gate": 4.0, "guidance": "cached_delta", "self_attention": False}
    run = sampled(tiny.sample, gated(variants.one_level(), **settings), there, steps=STEPS, after_step=fill)
    assert [len(step.pinned) for step in run.steps] == [0, 0, 0, 2, 0, 0, 0, 0]
    assert [step.down for step in run.steps] == [step.pinned for step in run.steps]
    assert [len(step.up) for step in run.steps[1:]] == [1, 1, 1, 3, 3, 3, 3]  # the text, and both captures


@pytest.mark.parametrize("share", [0.0, 0.4], ids=["nothing on the card", "a part on the card"])
@pytest.mark.parametrize(
    "make", [variants.one_level, lambda: stored_in(FP8, torch.float32)], ids=["fp32 weights", "fp8 weights"]
)
def test_weights_of_skipped_attentions_do_not_travel(there, gated, make, share):
    """As with --lowvram, where weights that are not on the card are brought there for each use."""
    plain = sampled(tiny.sample, LoadedInPart.of(make(), share), there, steps=STEPS)
    patched = gated(model := LoadedInPart.of(make(), share), **SETTINGS, guidance="keep")
    run = sampled(tiny.sample, patched, there, steps=STEPS)
    waiting = dict.fromkeys(("attn1", "attn2"), 0)
    for layer, kind in attention_layers(model.model.diffusion_model).items():
        waiting[kind] += sum(w.numel() * w.element_size() for w in layer.parameters(False) if w.device == CPU)
    assert sum(waiting.values()) > 0
    skipped = [[], ["attn1"], [], [], ["attn2"], ["attn1", "attn2"], ["attn2"], ["attn1", "attn2"]]
    saved = [sum(other.up) - sum(step.up) for step, other in zip(run.steps, plain.steps, strict=True)]
    assert saved == [sum(waiting[kind] for kind in kinds) for kinds in skipped]
    assert more_waits(run, plain) == [READ] * STEPS


def test_deep_features_travel_once_and_are_pinned_once(there, deep, gated):
    """One in each full step: 0, 3 and 6. Of the gate nothing but its choice of memory has a part in this."""
    settings = {"gate": STEPS - 1.0, "cross_attention": False, "self_attention": False, "guidance": "cached_delta"}
    patched = [
        deep(gated(tiny.sd15(), **settings, cache_device=device), cache_interval=3) for device in ("model", "cpu")
    ]
    beside, run = [sampled(tiny.sample, one, there, steps=STEPS) for one in patched]
    assert not any(step.down or step.pinned for step in beside.steps)
    assert [len(step.pinned) for step in run.steps] == [1, 0, 0, 1, 0, 0, 1, 0]
    assert [step.pinned for step in run.steps] == [step.down for step in run.steps]
    up = [len(step.up) - len(other.up) for step, other in zip(run.steps, beside.steps, strict=True)]
    assert up == [0, 1, 1, 0, 1, 1, 0, 1]
    assert [step.waits for step in run.steps] == [step.waits for step in beside.steps]
    assert torch.equal(run.result, beside.result)


@pytest.mark.parametrize("name", ["PixArt-Sigma", "Cosmos 1"])
def test_captures_of_another_network_travel_once_and_are_pinned_once(there, gated, name):
    """Of one whose batch is the first dimension, and of one whose batch is not."""
    family = next(family for family in FAMILIES if family.name == name)
    patched = [gated(family.make(), **SETTINGS, guidance="keep", cache_device=device) for device in ("model", "cpu")]
    beside, run = [sampled(family.sample, one, there, steps=STEPS) for one in patched]
    assert not any(step.down or step.pinned for step in beside.steps)
    assert [len(step.pinned) for step in run.steps] == STORED
    assert [step.pinned for step in run.steps] == [step.down for step in run.steps]
    up = [len(step.up) - len(other.up) for step, other in zip(run.steps, beside.steps, strict=True)]
    assert up == REUSED
    assert [step.waits for step in run.steps] == [step.waits for step in beside.steps]
    assert torch.equal(run.result, beside.result)


@pytest.mark.parametrize("name", ["balanced", "fast"])
def test_presets_read_sigma_alone(there, plain, pack, name):
    """What is predicted, and the difference that is held, stay on the card."""
    patched = pack.nodes["TGATEApply"].execute(model=variants.one_level(), preset=name).args[0]
    steps = 12  # fewer are gated like those of few-step models
    run = sampled(tiny.sample, patched, there, steps=steps)
    assert not any(step.down or step.pinned for step in run.steps)
    assert [step.waits for step in run.steps[1:]] == [READ] * (steps - 1)
    assert run.steps[0].waits == plain.steps[0].waits + Counter(READ)
    text = sum(plain.steps[1].up)
    # In steps that are predicted nothing runs, and behind the late gate of `fast` one branch.
    assert {sum(step.up) for step in run.steps[1:]} == {0, text, *([text // 2] if name == "fast" else [])}


def test_refresh_by_error_asks_for_its_number_a_step_later(there, gated):
    """The number is on its way meanwhile. A tolerance of nothing makes every step a guided one."""
    settings = {"gate": 3.0, "guidance": "cached_delta", "sp_interval": 1}
    rule = {"refresh": "by error", "refresh_tolerance": 0.01, "refresh_gap": 1}
    run = sampled(tiny.sample, gated(variants.one_level(), **settings, **rule), there, steps=STEPS)
    asked = [step.waits["event"] for step in run.steps]
    sent = [len(step.down) for step in run.steps]
    assert [step.pinned for step in run.steps] == [step.down for step in run.steps]
    assert sum(asked) > 1
    assert all(before == 1 for before, now in zip(sent[:-1], asked[1:], strict=True) if now)
    assert [step.waits - Counter(event=1) for step in run.steps[1:]] == [READ] * (STEPS - 1)
