"""DeepCache and T-GATE on one model: full steps keep their cadence through the gate, in either order of the nodes."""

from __future__ import annotations

import pytest
import tiny
import torch
from block_record import block_recording, shallow_blocks
from graphs import combine, ranged
from record import recording
from reference import reference
from tiny import distance, split_all_conds

pytestmark = pytest.mark.newest

EXACT = 1e-5  # of the latent's spread
FELT = 1e-3
STEPS = 10
GUIDANCE = ["uncond", "cond", "cond_mean", "cached_delta", "keep"]
SURVIVORS = {"uncond": [1], "cond": [0], "cond_mean": [0], "cached_delta": [0], "keep": [1, 0]}
ORDERS = ["DeepCache first", "T-GATE first"]
PER_CALL, SHALLOW_PER_CALL = 7, 3  # cross-attentions of the model below in a full and in a shallow call


@pytest.fixture(scope="module")
def model():
    return tiny.sd15()


@pytest.fixture
def both(gated, deep):
    """Both nodes on a model: `both(model, order, gate=4.0, cache_interval=3, …)`."""

    def apply(model, order=ORDERS[0], **settings):
        of_deep = {name: settings.pop(name) for name in ("cache_interval", "cache_branch_id") if name in settings}
        if order == ORDERS[0]:
            return gated(deep(model, **of_deep), **settings)
        return deep(gated(model, **settings), **of_deep)

    return apply


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("guidance", GUIDANCE)
def test_the_cadence_goes_on_through_the_gate(model, both, order, guidance):
    """Gate 4 and interval 3: the step before the gate is full anyway."""
    patched = both(model, order, gate=4.0, guidance=guidance)
    with block_recording(model, patched) as record, recording(model, patched) as attention:
        result = tiny.sample(patched, steps=STEPS)
    assert record.depths == "FssFssFssF"
    assert [call.branches for call in record.calls] == [[1, 0]] * 4 + [SURVIVORS[guidance]] * 6
    before = [PER_CALL, SHALLOW_PER_CALL, SHALLOW_PER_CALL, PER_CALL]
    assert attention.per_call("cross_attention") == before + [0] * 6
    expected = tiny.sample(reference(model, 4, guidance, interval=3), steps=STEPS)
    assert distance(result, expected) < EXACT


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("guidance", ["uncond", "cached_delta", "keep"])
@pytest.mark.parametrize(
    ("gate", "depths"), [(1, "FssFssFssF"), (3, "FsFFssFssF"), (6, "FssFsFFssF"), (10, "FssFssFssF")]
)
def test_the_step_before_the_gate_is_full(model, both, order, guidance, gate, depths):
    """What T-GATE captures there it needs of every block."""
    patched = both(model, order, gate=float(gate), guidance=guidance)
    with block_recording(model, patched) as record:
        result = tiny.sample(patched, steps=STEPS)
    assert record.depths == depths
    assert {len(call.branches) for call in record.calls[gate:]} <= {2 if guidance == "keep" else 1}
    expected = tiny.sample(reference(model, gate, guidance, interval=3), steps=STEPS)
    assert distance(result, expected) < EXACT
    assert (
        distance(result, tiny.sample(both(model, gate=float(gate), guidance=guidance, cache_interval=1), steps=STEPS))
        > FELT
    )


@pytest.mark.parametrize(("interval", "guidance"), [(2, "uncond"), (3, "cached_delta"), (4, "keep"), (2, "keep")])
@pytest.mark.parametrize(
    "schedule",
    [
        pytest.param({"gate": 8, "sp_interval": 5, "warm_up": 2}, id="sp 5"),
        pytest.param({"gate": 8, "sp_interval": 2, "warm_up": 1}, id="sp 2"),
        pytest.param({"gate": 3, "fi_interval": 2}, id="fi 2"),
        pytest.param({"gate": 6, "sp_interval": 3, "fi_interval": 3}, id="sp 3, fi 3"),
    ],
)
def test_self_attention_intervals(model, both, guidance, interval, schedule):
    """A capture due in a shallow step is made up for in the next full one."""
    patched = both(model, **schedule, guidance=guidance, cache_interval=interval)
    result = tiny.sample(patched, steps=STEPS)
    oracle = reference(model, **schedule, guidance=guidance, interval=interval)
    assert distance(result, tiny.sample(oracle, steps=STEPS)) < EXACT


@pytest.mark.parametrize("guidance", ["uncond", "cached_delta"])
def test_deeper_branches(model, both, guidance):
    patched = both(model, gate=4.0, cache_branch_id=1, guidance=guidance)
    with block_recording(model, patched) as record:
        result = tiny.sample(patched, steps=STEPS)
    assert record.calls[5].blocks == shallow_blocks(model, 1)
    assert distance(result, tiny.sample(reference(model, 4, guidance, interval=3, branch=1), steps=STEPS)) < EXACT


@pytest.fixture
def preset_and_deep(pack, deep):
    """Both nodes on a model, in one order or the other."""

    def patch(model, order):
        def gate(model):
            return pack.nodes["TGATEApply"].execute(model=model, preset="balanced").args[0]

        return gate(deep(model)) if order == ORDERS[0] else deep(gate(model))

    return patch


@pytest.mark.parametrize("order", ORDERS)
def test_presets(model, preset_and_deep, order):
    patched = preset_and_deep(model, order)
    with block_recording(model, patched) as record:
        tiny.sample(patched, steps=25)
    # Of the steps that run, two in three are shallow.
    assert record.depths == "FssFssFssFssFss"
    assert [len(call.branches) for call in record.calls] == [2] * 15


@pytest.mark.parametrize("order", ORDERS)
def test_presets_where_no_step_can_be_predicted(model, preset_and_deep, order):
    """All guided steps are whole; most of the others are shallow."""
    patched = preset_and_deep(model, order)
    with block_recording(model, patched) as record:
        tiny.sample(patched, steps=25, sampler="ddpm")
    guided = [len(call.branches) == 2 for call in record.calls]
    assert len(guided) == 25
    assert sum(guided) == 6
    assert all(depth == "F" for depth, is_guided in zip(record.depths, guided, strict=True) if is_guided)
    assert record.depths.count("s") == 11


def test_protected_steps_are_full(model, both):
    patched = both(model, gate=4.0, protect_last=2)
    with block_recording(model, patched) as record:
        tiny.sample(patched, steps=STEPS)
    assert record.depths == "FssFssFsFF"
    assert [len(call.branches) for call in record.calls] == [2] * 4 + [1] * 4 + [2] * 2


@pytest.mark.parametrize("order", ORDERS)
def test_a_gate_beyond_the_run_leaves_deep_cache_alone(model, both, deep, order):
    patched = both(model, order, gate=100.0, sp_interval=3)
    with block_recording(model, patched) as record:
        result = tiny.sample(patched, steps=STEPS)
    assert record.depths == "FssFssFssF"
    assert torch.equal(result, tiny.sample(deep(model), steps=STEPS))


def test_deep_cache_switched_off_leaves_the_gate_alone(model, both, gated):
    patched = both(model, gate=4.0, sp_interval=2, cache_interval=1)
    assert torch.equal(tiny.sample(patched), tiny.sample(gated(model, gate=4.0, sp_interval=2)))


@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize("split_from", [0, 1, 3, 5])
def test_one_call_or_two_give_the_same(both, guidance, split_from):
    model = tiny.sd15()
    patched = both(model, gate=6.0, sp_interval=2, fi_interval=2, guidance=guidance)
    together = tiny.sample(patched, steps=STEPS)
    if split_from == 0:
        split_all_conds(model)

    def change_memory(step, *_):
        if step + 1 == split_from:
            split_all_conds(model)

    assert distance(tiny.sample(patched, callback=change_memory, steps=STEPS), together) < EXACT


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2s_ancestral", "dpm_2", "heunpp2", "dpm_fast", "dpmpp_sde"])
@pytest.mark.parametrize("guidance", ["uncond", "cached_delta"])
def test_samplers_that_evaluate_more_often_or_elsewhere(model, both, sampler, guidance):
    patched = both(model, gate=5.0, guidance=guidance)
    with recording(model, patched) as record, block_recording(model, patched) as depth:
        result = tiny.sample(patched, steps=STEPS, sampler=sampler)
    assert torch.isfinite(result).all()
    assert depth.depths.count("s") > 0
    alone = [call for call in record.calls if len(call.branches) == 1]
    assert len(alone) >= 4
    assert not any(call.cross_attention for call in alone)  # which on the uncond branch alone would lose the text


def test_the_log_says_what_both_saved(model, both, caplog):
    with caplog.at_level("INFO"):
        tiny.sample(both(model, gate=4.0), steps=STEPS)
    (line,) = [record.getMessage() for record in caplog.records if "cache peak" in record.getMessage()]
    assert "gate at step 4 of 10" in line
    assert "6 of 10 network calls left out the deep blocks" in line


@pytest.mark.parametrize("guidance", ["uncond", "cached_delta", "keep"])
@pytest.mark.parametrize("start", [0.3, 0.4, 0.5])
def test_a_prompt_that_begins_within_a_cycle(both, guidance, start):
    """It has no feature yet, while the negative has: the negative is as if it had been in a call of its own."""
    run = {"positive": combine(ranged(tiny.text(1), 0.0, start), ranged(tiny.text(3), start, 1.0)), "steps": STEPS}
    settings = {"gate": 8.0, "sp_interval": 2, "fi_interval": 2, "guidance": guidance, "cache_interval": 4}
    together = tiny.sample(both(tiny.sd15(), **settings), **run)
    apart = tiny.sd15()
    split_all_conds(apart)
    assert distance(tiny.sample(both(apart, **settings), **run), together) < EXACT
