"""Networks with a text cross-attention of their own, beside the UNets: gated by the same rules, site by site."""

from __future__ import annotations

from contextlib import contextmanager

import comfy.model_management
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from families import FAMILIES, Family
from family_record import layer_use
from random_graphs import held_captures
from record import with_runs
from tiny import distance, split_all_conds

pytestmark = pytest.mark.oldest

GUIDANCE = ["uncond", "cond", "cond_mean", "cached_delta", "keep"]
SCHEDULES = {
    "cross-attention": {"gate": 3, "sp_interval": 1, "fi_interval": 1, "warm_up": 0},
    "both": {"gate": 4, "sp_interval": 2, "fi_interval": 2, "warm_up": 1},
    "self-attention from the gate on": {"gate": 3, "sp_interval": 1, "fi_interval": 2, "warm_up": 0},
}
# Every guidance with one schedule, and the other schedules where one branch goes on and where both do.
SCHEDULED = [("both", guidance) for guidance in GUIDANCE]
SCHEDULED += [(name, guidance) for name in SCHEDULES if name != "both" for guidance in ("uncond", "keep")]
# Of "both": in step 1 self-attention is captured anew (warm-up), in 2 computed (even), in 3 captured (last before the
# gate), in 4 computed again and in 5 reused; cross-attention is frozen from step 4 on.
COMPUTED = {"self": [1, 1, 1, 1, 1, 0], "cross": [1, 1, 1, 1, 0, 0]}
ROUNDING = 1e-5


@contextmanager
def apart(model):
    """Meanwhile the host runs each cond in a call of its own."""
    factor = model.model.memory_usage_factor
    split_all_conds(model)
    try:
        yield
    finally:
        model.model.memory_usage_factor = factor


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.name)
def family(request) -> Family:
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
def plain_apart(family, model):
    """The run without T-GATE where the host does not batch its conds."""
    with apart(model):
        return family.sample(model)


@pytest.fixture(scope="module")
def plain_in_12_steps(family, model):
    return family.sample(model, steps=12)


@pytest.fixture
def gate(gated):
    """A model gated by one of the schedules."""

    def apply(model, schedule="both", **settings):
        chosen = SCHEDULES[schedule]
        return gated(model, **{**chosen, "gate": float(chosen["gate"]), **settings})

    return apply


@pytest.mark.parametrize(("schedule", "guidance"), SCHEDULED)
def test_a_run_is_what_the_schedule_says(family, model, plain, gate, schedule, guidance):
    expected = family.sample(family.reference(model, **SCHEDULES[schedule], guidance=guidance))
    result = family.sample(gate(model, schedule, guidance=guidance))
    assert distance(result, expected) < ROUNDING
    assert distance(expected, plain) > 1000 * ROUNDING


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_a_skipped_attention_runs_nothing(family, model, gate, guidance):
    with layer_use(family, model) as whole:
        family.sample(model, steps=1)
    patched = gate(model, guidance=guidance)
    with layer_use(family, patched) as use:
        family.sample(patched)
    assert use.batches == [2, 2, 2, 2] + [2 if guidance == "keep" else 1] * 2
    for kind, computed in COMPUTED.items():
        (all_layers,) = whole.of(kind)
        assert all_layers > 0
        assert use.of(kind) == [all_layers * times for times in computed]


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_how_the_host_batches_does_not_show(family, model, plain, plain_apart, gate, guidance):
    patched = gate(model, guidance=guidance)
    together = family.sample(patched)
    with apart(model):
        one_by_one = family.sample(patched)
    # One of these networks (ACE-Step 1.5) lets the conds of a batch see each other, T-GATE or not.
    allowed = max(ROUNDING, 2 * distance(plain_apart, plain))
    assert distance(one_by_one, together) < allowed


def test_off_is_bit_equal_and_leaves_nothing_behind(family, model, plain, gate):
    patched = gate(model)
    assert not torch.equal(family.sample(patched), plain)
    assert torch.equal(family.sample(gate(model, gate=100.0)), plain)
    assert torch.equal(family.sample(model), plain)
    assert not any("forward" in module.__dict__ for module in model.model.diffusion_model.modules())


def test_a_run_knows_nothing_of_the_one_before(family, model, gate):
    patched = gate(model)
    expected = family.sample(patched)
    size = (*family.latent[1:-1], family.latent[-1] + 4)
    family.sample(patched, latent=family.empty_latent(size=size))
    family.sample(patched, latent=family.empty_latent(batch=2), positive=family.text(5))
    family.sample(patched, last_step=3)
    assert torch.equal(family.sample(patched), expected)


@pytest.mark.newest
def test_an_interrupted_run_leaves_nothing(family, model, gate, pack):
    patched = gate(model)
    expected = family.sample(patched)

    def interrupt(step, *_):
        if step == 3:
            raise comfy.model_management.InterruptProcessingException

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        family.sample(patched, callback=interrupt)
    assert held_captures(pack) == 0
    assert torch.equal(family.sample(patched), expected)


@pytest.mark.newest
@pytest.mark.parametrize("guidance", GUIDANCE)
def test_several_conds_in_a_branch(family, model, gate, guidance):
    """Two prompts, one of them from the middle on: nothing to merge, and each prompt keeps captures of its own."""
    positive = [*family.text(1), *family.text(3, start_percent=0.5)]
    result = family.sample(gate(model, "cross-attention", guidance=guidance), positive=positive)
    reference = family.reference(model, **SCHEDULES["cross-attention"], guidance="keep")
    kept = family.sample(reference, positive=positive)
    assert torch.isfinite(result).all()
    assert (distance(result, kept) < ROUNDING) == (guidance in ("uncond", "cond_mean", "keep"))


def test_room_is_asked_for_just_what_both_branches_take(family, model, gate):
    shapes = []

    def look_at_shape(executor, *args, **kwargs):
        shapes.append(args[1])
        return executor(*args, **kwargs)

    patched, runs = with_runs(gate(model, "cross-attention", guidance="keep"))
    patched.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, "look", look_at_shape)
    family.sample(patched)
    (run,), (shape,) = runs, shapes
    room = model.model.memory_required(list(shape)) - model.model.memory_required(list(family.empty_latent().shape))
    # Some networks put a token or two of their own before those of the picture.
    assert room == pytest.approx(run.cache.peak_bytes, rel=0.05)


@pytest.mark.newest
@pytest.mark.parametrize("preset", ["balanced", "gentle", "fast", "as published"])
def test_presets_make_a_difference(family, model, plain_in_12_steps, pack, preset):
    patched = pack.nodes["TGATEApply"].execute(model=model, preset=preset).args[0]
    result = family.sample(patched, steps=12)
    assert torch.isfinite(result).all()
    assert not torch.equal(result, plain_in_12_steps)
