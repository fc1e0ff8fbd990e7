"""TGATE Probe: it measures what really happens, changes nothing, and gates follow from what it saw."""

from __future__ import annotations

import itertools
from contextlib import ExitStack, contextmanager

import comfy.model_management
import pytest
import tiny
import torch
from families import FAMILIES
from joint_families import JOINT_FAMILIES
from tiny import distance

STEPS = 8
SITES = 7


@pytest.fixture(scope="module")
def model():
    return tiny.sd15()


@pytest.fixture
def probed(pack):
    """A measured model and its probe."""
    return lambda model: pack.nodes["TGATEProbe"].execute(model=model).args


@pytest.fixture
def plot(pack):
    """What the plot gives, with the latent of the measured run."""

    def show(probe, latent=None, **settings):
        given = {} if latent is None else {"latent": {"samples": latent}}
        return pack.nodes["TGATEConvergencePlot"].execute(probe=probe, **given, **settings).args

    return show


def seen_changes(model, attention, **run):
    """Relative changes of one attention's output as a forward hook sees them, the mean of both branches."""
    outputs = []
    handle = attention.register_forward_hook(lambda _module, _args, result: outputs.append(result.detach().clone()))
    try:
        tiny.sample(model, **run)
    finally:
        handle.remove()
    changes = []
    for before, now in itertools.pairwise(outputs):
        pairs = zip(before.chunk(2), now.chunk(2), strict=True)
        changes.append(sum(float((b - a).norm() / a.norm()) for a, b in pairs) / 2)
    return changes


def test_it_changes_nothing(model, probed):
    patched, probe = probed(model)
    assert probe.profile is None
    assert torch.equal(tiny.sample(patched), tiny.sample(model))
    assert probe.profile is not None
    assert not any("forward" in module.__dict__ for module in model.model.diffusion_model.modules())


def test_it_measures_what_hooks_see(model, probed):
    patched, probe = probed(model)
    tiny.sample(patched)
    changes = probe.profile.changes
    assert [len(changes[kind]) for kind in ("attn1", "attn2")] == [SITES, SITES]
    block = tiny.blocks(model)[0]
    for kind, attention in (("attn1", block.attn1), ("attn2", block.attn2)):
        measured = changes[kind]["input.1.0"]
        assert torch.tensor(measured[0]).isnan()
        assert measured[1:] == pytest.approx(seen_changes(model, attention), rel=1e-5)


@pytest.mark.parametrize("cfg", [5.0, 1.0])
def test_the_angle_of_the_branches_needs_both(model, probed, cfg):
    patched, probe = probed(model)
    tiny.sample(patched, cfg=cfg)
    cosines = torch.tensor(probe.profile.cosines)
    assert cosines.shape == (STEPS,)
    assert cosines.isnan().all() if cfg == 1.0 else ((cosines >= -1) & (cosines < 0.9999)).all()


@pytest.mark.parametrize("sampler", ["heun", "dpm_fast", "dpmpp_2s_ancestral", "uni_pc"])
def test_any_sampler(model, probed, plot, sampler):
    patched, probe = probed(model)
    result = tiny.sample(patched, sampler=sampler)
    assert torch.equal(result, tiny.sample(model, sampler=sampler))
    assert 1 <= plot(probe, result)[1] <= STEPS


def test_sizes_batches_and_areas(model, probed):
    patched, probe = probed(model)
    run = {"latent": torch.zeros(2, 4, 8, 12), "positive": [*tiny.text(1), *tiny.text(3, area=(4, 8, 0, 0))]}
    assert torch.equal(tiny.sample(patched, **run), tiny.sample(model, **run))
    assert len(probe.profile.changes["attn2"]) == SITES


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_other_networks(family, probed, plot):
    if not family.is_available:
        pytest.skip("this host does not know the model")
    model = family.make()
    patched, probe = probed(model)
    result = family.sample(patched)
    assert torch.equal(result, family.sample(model))
    pairs = family.pairs(model)
    assert len(probe.profile.changes["attn2"]) == len(pairs)
    assert plot(probe, result)[0].ndim == 4


@pytest.mark.newest
@pytest.mark.parametrize("family", JOINT_FAMILIES, ids=lambda family: family.name)
def test_joint_attention(family, probed, plot, pack):
    """By whole modules, or within blocks; of what T-GATE does not know nothing is measured."""
    if not family.is_available:
        pytest.skip("this host does not know the model")
    model = family.make()
    patched, probe = probed(model)
    result = family.sample(patched)
    assert torch.equal(result, family.sample(model))
    if pack.core("host.networks").scope_of(model) == "guidance alone":
        assert probe.profile is None
        return
    changes = probe.profile.changes["attn1"]
    assert len(changes) == len(attentions_of(model, pack))
    assert all(0 < value < 10 for values in changes.values() for value in values[1:])
    assert all(-1 <= cosine <= 1 for cosine in probe.profile.cosines)
    picture, gate, text, _ = plot(probe, result, tolerance=100.0)
    assert picture.ndim == 4
    assert 1 <= gate <= 6
    assert family.joint == "of their own" or "oint attention" in text


def attentions_of(model, pack):
    """Names of the self-attentions of a network, or of its joint attentions."""
    networks, known = pack.core("host.networks"), pack.core("host.architectures")
    network = model.model.diffusion_model
    sites = known.attention_sites(network, known.architecture_of(network))
    names = [site.name for site in sites if site.rule.kind == "attn1"]
    return names or [name for names in networks.inline_attentions(network).values() for name in names]


@pytest.mark.newest
@pytest.mark.parametrize("name", ["Flux", "SD 3.5", "Z-Image"])
def test_joint_attention_is_measured_as_a_hook_sees_it(name, probed):
    """What it puts out, or the input of the layer behind it, of both branches."""
    (family,) = [family for family in JOINT_FAMILIES if family.name == name]
    model, seen = family.make(), []
    path, measured = {
        "Flux": ("single_blocks.0.linear2", "single_blocks.0"),
        "SD 3.5": ("joint_blocks.0.x_block.attn2.proj", "joint_blocks.0.second"),
        "Z-Image": ("layers.0.attention", "layers.0.attention"),
    }[name]
    patched, probe = probed(model)
    layer = model.model.diffusion_model.get_submodule(path)

    def look(module, inputs, output):
        seen.append((output if name == "Z-Image" else inputs[0][..., : module.out_features]).clone())

    handle = layer.register_forward_hook(look)
    try:
        family.sample(model)
    finally:
        handle.remove()
    family.sample(patched)
    expected = [
        sum(float((b - a).norm() / a.norm()) for a, b in zip(before.chunk(2), now.chunk(2), strict=True)) / 2
        for before, now in itertools.pairwise(seen)
    ]
    assert probe.profile.changes["attn1"][measured][1:] == pytest.approx(expected, rel=1e-5)


def test_an_interrupted_run_measures_nothing(model, probed):
    def interrupt(step, *_):
        if step == 3:
            raise comfy.model_management.InterruptProcessingException

    patched, probe = probed(model)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        tiny.sample(patched, callback=interrupt)
    assert probe.profile is None


def test_a_gated_run_is_not_measured(model, gated, probed, pack):
    patched, probe = probed(gated(model))
    tiny.sample(patched)
    assert probe.profile is None
    record = pack.core("host.install").records_of(patched).last
    assert any("measures runs" in note for note in record.counts.notes)


class TestWhichRunIsShown:
    """A node that does not wait for the measured run would show the one before as if it were this one."""

    def test_without_a_latent_nothing_is_shown_of_a_probe_that_runs_fill(self, model, probed, plot):
        patched, probe = probed(model)
        for _ in range(2):
            with pytest.raises(ValueError, match=r"holds no measurement of it; connect the latent"):
                plot(probe)
            tiny.sample(patched)

    def test_a_loaded_measurement_waits_for_nothing(self, model, probed, plot):
        patched, probe = probed(model)
        copy = plot(probe, tiny.sample(patched))[3]
        assert plot(copy)[1] == plot(copy, torch.zeros(1, 4, 8, 8))[1]

    def test_a_run_that_is_measured_begins_with_nothing(self, model, probed, plot):
        patched, probe = probed(model)
        result, held = tiny.sample(patched), []
        tiny.sample(patched, callback=lambda *_: held.append(probe.profile))
        assert held == [None] * STEPS
        with pytest.raises(RuntimeError):
            tiny.sample(patched, callback=fail)
        with pytest.raises(ValueError, match="holds no measurement"):
            plot(probe, result)

    def test_the_latent_of_another_run_is_told(self, model, gated, probed, plot):
        patched, probe = probed(model)
        measured = tiny.sample(patched)
        assert "not the one that the measured run made" not in plot(probe, measured)[2]
        # Gated behind the probe: such a run is not measured, so the probe still holds the one before.
        other = tiny.sample(gated(patched), seed=1)
        assert "not the one that the measured run made" in plot(probe, other)[2]

    @pytest.mark.parametrize("has_run", [False, True])
    def test_no_other_node_takes_a_probe_that_runs_fill(self, model, pack, gated, probed, has_run):
        patched, probe = probed(model)
        if has_run:
            tiny.sample(patched)
        with pytest.raises(ValueError, match="take it from TGATE Convergence Plot"):
            gated(model, gate=10.0, gate_unit="measured", probe=probe)
        with pytest.raises(ValueError, match="take it from TGATE Convergence Plot"):
            pack.nodes["TGATESaveProbe"].execute(probe=probe)


def fail(*_):
    raise RuntimeError


def test_an_empty_probe_is_an_error_that_says_what_to_do(model, gated, probed, plot):
    _, probe = probed(model)
    with pytest.raises(ValueError, match="sample the model that comes out of TGATE Probe"):
        plot(probe, torch.zeros(1, 4, 8, 8))
    with pytest.raises(ValueError, match="connect a probe"):
        gated(model, gate=10.0, gate_unit="measured")
    with pytest.raises(ValueError, match="percent"):
        gated(model, gate=101.0, gate_unit="measured", probe=type(probe)())
    with pytest.raises(ValueError, match="holds no measurement yet"):
        tiny.sample(gated(model, gate=10.0, gate_unit="measured", probe=type(probe)()))


def test_a_probe_of_another_model_is_an_error(gated, probed):
    patched, probe = probed(tiny.sd15(transformer_depth=[1, 0], transformer_depth_output=[1, 1, 0, 0]))
    tiny.sample(patched)
    with pytest.raises(ValueError, match="another model"):
        tiny.sample(gated(tiny.sd15(), gate=10.0, gate_unit="measured", probe=type(probe)(probe.profile)))


@contextmanager
def computed_per_call(model):
    """Which cross-attentions, by their order, run in each network call."""
    calls = []
    with ExitStack() as hooks:
        network = model.model.diffusion_model
        hooks.callback(network.register_forward_pre_hook(lambda *_: calls.append(set())).remove)
        for index, block in enumerate(tiny.blocks(model)):
            hook = block.attn2.to_q.register_forward_hook(lambda *_, index=index: calls[-1].add(index))
            hooks.callback(hook.remove)
        yield calls


def settling(probe, gates, steps=STEPS):
    """The same probe, as if its cross-attentions had settled at these steps."""
    names = list(probe.profile.changes["attn2"])
    rows = {
        name: tuple(float("nan") if step == 0 else 0.5 if step < gate else 0.01 for step in range(steps))
        for name, gate in zip(names, gates, strict=True)
    }
    changed = type(probe.profile)(**{**vars(probe.profile), "changes": {**probe.profile.changes, "attn2": rows}})
    return type(probe)(changed)


@pytest.mark.parametrize("guidance", ["uncond", "cond", "cached_delta", "keep"])
def test_each_block_is_gated_where_it_settled(model, gated, probed, guidance):
    patched, probe = probed(model)
    tiny.sample(patched)
    gates = [2, 3, 3, 4, 5, 5, 5]
    chosen = {"gate": 10.0, "gate_unit": "measured", "guidance": guidance, "self_attention": False}
    measured = gated(model, **chosen, probe=settling(probe, gates))
    with computed_per_call(model) as computed:
        result = tiny.sample(measured)
    mean_gate = settling(probe, gates).profile.gate_step(10.0)
    assert mean_gate == 5
    for step in range(STEPS):
        expected = {index for index, gate in enumerate(gates) if step < gate}
        # The pass before the gate keeps nothing of the branch that will not run again, so it computes both anew.
        if step == mean_gate - 1 and guidance in ("cond", "cached_delta"):
            assert computed[step] >= expected
        else:
            assert computed[step] == expected, step
    assert torch.isfinite(result).all()
    assert torch.equal(tiny.sample(measured), result)


def test_equal_gates_are_an_ordinary_gate(model, gated, probed):
    patched, probe = probed(model)
    tiny.sample(patched)
    measured = gated(model, gate=10.0, gate_unit="measured", probe=settling(probe, [4] * SITES))
    assert torch.equal(tiny.sample(measured), tiny.sample(gated(model, gate=4.0)))


def test_another_number_of_steps_is_gated_at_the_same_noise(model, gated, probed):
    patched, probe = probed(model)
    tiny.sample(patched)
    settled = settling(probe, [4] * SITES)
    measured = gated(model, gate=10.0, gate_unit="measured", probe=settled)
    # The host lays these schedules from the first to the last noise level: 4 of 7 steps are 8.6 of 15.
    assert torch.equal(tiny.sample(measured, steps=16), tiny.sample(gated(model, gate=9.0), steps=16))


def test_what_never_settles_is_left_as_it_is(model, gated, probed, pack):
    patched, probe = probed(model)
    tiny.sample(patched)
    measured = gated(model, gate=10.0, gate_unit="measured", probe=settling(probe, [99] * SITES))
    assert torch.equal(tiny.sample(measured), tiny.sample(model))
    record = pack.core("host.install").records_of(measured).last
    assert any("never settled" in note for note in record.counts.notes)


def test_settled_blocks_change_little_of_the_picture(model, gated, probed):
    patched, probe = probed(model)
    plain = tiny.sample(patched)
    early = gated(model, gate=10.0, gate_unit="measured", guidance="keep", probe=settling(probe, [1] * SITES))
    late = gated(model, gate=10.0, gate_unit="measured", guidance="keep", probe=settling(probe, [7] * SITES))
    assert distance(tiny.sample(late), plain) < distance(tiny.sample(early), plain)
