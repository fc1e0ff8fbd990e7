"""Networks without attention patches, on several real models: each attention knows whose call it is part of."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import torch
from comfy.patcher_extension import WrappersMP
from families import FAMILIES
from family_record import layer_use
from joint_families import JOINT_FAMILIES
from operations import second_device
from tiny import distance

SETTINGS = {"gate": 4.0, "sp_interval": 2, "fi_interval": 2, "warm_up": 1}
# One that is told its options in every block, and one that is told nothing.
NAMES = ("Wan T2V", "PixArt-Sigma")
# Of 25 steps, on random weights.
ROUNDING = 1e-3


@pytest.fixture(scope="module", params=NAMES)
def family(request):
    return next(family for family in FAMILIES if family.name == request.param)


@pytest.mark.parametrize("guidance", ["uncond", "cached_delta", "keep"])
def test_a_clone_on_another_network_skips_that_networks_attentions(family, gated, guidance):
    model, other = family.make(), family.make()
    for parameter in other.model.diffusion_model.parameters():
        parameter.data = parameter.data * 0.9
    expected = family.sample(gated(other, **SETTINGS, guidance=guidance))
    clone = gated(model, **SETTINGS, guidance=guidance).clone(model_override=other.get_clone_model_override())
    with layer_use(family, clone) as use:
        result = family.sample(clone)
    assert torch.equal(result, expected)
    assert use.of("cross")[-1] == 0
    assert not any("forward" in module.__dict__ for module in model.model.diffusion_model.modules())


@pytest.mark.parametrize("guidance", ["uncond", "cached_delta", "keep"])
def test_two_networks_at_once(family, gated, guidance):
    """The host's own threads, one branch on each of two networks."""
    model = family.make()
    expected = family.sample(gated(model, **SETTINGS, guidance=guidance))
    second = second_device(model, family.make)
    patched = gated(model, **SETTINGS, guidance=guidance)
    with ExitStack() as stack:
        uses = [stack.enter_context(layer_use(family, patched, counted)) for counted in (patched, second)]
        result = family.sample(patched)
    assert distance(result, expected) < 1e-5
    assert all(sum(use.of("cross")) > 0 for use in uses)
    if guidance != "keep":
        assert sum(uses[0].of("cross")) == sum(uses[1].of("cross"))  # both branches until the gate, none after it


def test_another_network_called_within_a_call_is_left_alone(family, gated):
    """A node that asks a second gated model for advice, in the middle of a network call of the first."""
    model, other = gated(family.make(), **SETTINGS), gated(family.make(), **SETTINGS)
    family.sample(other)  # what stands in for its attentions stays on until something else needs the model
    assert any("forward" in module.__dict__ for module in other.model.diffusion_model.modules())
    latent, text = family.empty_latent() + 0.5, family.text(3)[0][0]

    def ask():
        with torch.inference_mode():
            return other.model.apply_model(latent, torch.ones(1), c_crossattn=text)

    answer, answers = ask(), []

    def wrapper(apply_model, arguments):
        result = apply_model(arguments["input"], arguments["timestep"], **arguments["c"])
        answers.append(ask())
        return result

    def within_the_network(executor, *args, **kwargs):
        answers.append(ask())
        return executor(*args, **kwargs)

    advised = model.clone()
    advised.set_model_unet_function_wrapper(wrapper)
    advised.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "advice", within_the_network)
    result = family.sample(advised)
    assert len(answers) == 12
    assert all(torch.equal(given, answer) for given in answers)
    assert torch.equal(result, family.sample(model))


@pytest.mark.newest
@pytest.mark.parametrize("name", ["Flux", "Qwen-Image", "SD 3.5", "CogVideoX", "LTX-2"])
def test_joint_attention_on_two_devices(name, gated, pack, counts_of):
    """Captures, the held difference and what is predicted are those of a run on one device."""
    (family,) = [family for family in JOINT_FAMILIES if family.name == name]
    reused = {"gate": 3.0, "sp_interval": 2, "fi_interval": 2, "warm_up": 0, "guidance": "cached_delta"}

    def patched_with(model):
        preset = pack.nodes["TGATEApply"].execute(model=model).args[0]
        return {"gated": (gated(model, **reused), 6), "preset": (preset, 25)}

    model = family.make()
    alone = {how: family.sample(one, steps=steps) for how, (one, steps) in patched_with(model).items()}
    second_device(model, family.make)
    for how, (patched, steps) in patched_with(model).items():
        assert distance(family.sample(patched, steps=steps), alone[how]) < ROUNDING
        counts = counts_of(patched)
        assert counts.attentions_reused or how == "preset" or not family.is_reused
        assert counts.skipped_passes or how == "gated"
        assert pack.core("host.run_start").SEVERAL_DEVICES in counts.notes
