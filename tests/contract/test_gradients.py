"""Samplers that differentiate: what is kept leads back into no step, and a step that runs in full has its gradient."""

from __future__ import annotations

from contextlib import contextmanager

import comfy.samplers
import graphs
import pytest
import tiny
import torch
import variants
from families import FAMILIES

# Autograd is torch's, whatever the host.
pytestmark = pytest.mark.newest

STEPS = 8
GATE = 4
GUIDANCE = ["uncond", "cond", "cond_mean", "cached_delta", "keep"]
SETTINGS = {"gate": float(GATE), "sp_interval": 2, "fi_interval": 2, "warm_up": 1}


@contextmanager
def in_mode(mode):
    """What a sampler evaluates a step in: "grad" as for a gradient, or as the host runs nodes."""
    with torch.inference_mode(mode == "inference"), torch.set_grad_enabled(mode == "grad"):
        yield


class Differentiating:
    """A sampler that descends the slope of each prediction by the latent; keeps the slopes, None where it took none."""

    def __init__(self, modes=("grad",) * STEPS):
        self.modes = modes
        self.slopes = []

    def __call__(self, model, x, sigmas, extra_args=None, callback=None, disable=None):
        """As the samplers of k-diffusion."""
        for step, mode in enumerate(self.modes):
            with in_mode(mode):
                latent = x.clone().requires_grad_(mode == "grad")
                now, then = (sigma.clone() for sigma in sigmas[step : step + 2])
                denoised = model(latent, now * latent.new_ones(len(latent)), **extra_args)
                self.slopes.append(None)
                if mode == "grad":
                    denoised.square().sum().backward()
                    self.slopes[-1] = latent.grad
                denoised = denoised.detach()
                slope = 0.0 if self.slopes[-1] is None else self.slopes[-1]
                x = latent.detach() + (latent.detach() - denoised) / now * (then - now) - 0.01 * slope
            if callback is not None:
                callback({"x": x, "i": step, "sigma": now, "sigma_hat": now, "denoised": denoised})
        return x


def sample(model, sampler, text=tiny.text, latent=None):
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(text(1), text(2))
    guider.set_cfg(5.0)
    sigmas = graphs.basic_scheduler(model, steps=STEPS)
    latent = torch.zeros(1, 4, 8, 8) if latent is None else latent
    noise = tiny.noise_of(0, latent.shape)
    return guider.sample(noise, latent, comfy.samplers.KSAMPLER(sampler), sigmas, disable_pbar=True)


def slopes_of(model, *run, **modes):
    sampler = Differentiating(**modes)
    assert torch.isfinite(sample(model, sampler, *run)).all()
    return sampler.slopes


@pytest.fixture(scope="module")
def model():
    return variants.one_level()


@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize("deep_interval", [None, 3])
def test_a_gradient_in_each_step(model, gated, deep, guidance, deep_interval):
    """None leads back into a step that is over, whose graph is gone."""
    patched = gated(model, **SETTINGS, guidance=guidance)
    if deep_interval is not None:
        patched = deep(patched, cache_interval=deep_interval)
    slopes = slopes_of(patched)
    assert all(torch.isfinite(slope).all() and slope.abs().max() > 0 for slope in slopes)


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_full_steps_have_the_gradient_that_they_have_without_us(model, gated, guidance):
    """Those that capture among them."""
    expected = slopes_of(model)
    slopes = slopes_of(gated(model, gate=float(GATE), guidance=guidance))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(slopes[:GATE], expected[:GATE], strict=True))
    assert not torch.equal(slopes[GATE], expected[GATE])


def test_a_full_step_of_deep_cache_has_its_gradient(model, deep):
    assert torch.equal(slopes_of(deep(model, cache_interval=3))[0], slopes_of(model)[0])


def test_the_kept_difference_moves_with_the_prediction_alone(model, gated):
    """After the gate the slope is that of the cond branch: the difference is a constant of the run."""
    patched = gated(model, gate=float(GATE), guidance="cached_delta")
    cond_alone = gated(model, gate=float(GATE), guidance="cond")
    given, sigma = tiny.noise(3), 2.0

    class Last(Differentiating):
        def __call__(self, denoise, x, sigmas, extra_args=None, **rest):
            with in_mode("grad"):
                for step in range(GATE):
                    denoise(x, sigmas[step : step + 1], **extra_args)
                latent = given.clone().requires_grad_()
                denoise(latent, torch.tensor([sigma]), **extra_args).sum().backward()
                self.slopes = [latent.grad]
            return x

    ours, theirs = Last(), Last()
    sample(patched, ours)
    sample(cond_alone, theirs)
    torch.testing.assert_close(ours.slopes, theirs.slopes)


def test_a_measured_run_has_all_its_gradients(model, pack):
    patched, probe = pack.nodes["TGATEProbe"].execute(model=model).args
    expected = slopes_of(model)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(slopes_of(patched), expected, strict=True))
    assert all(abs(cosine) <= 1 for cosine in probe.profile.cosines)


def test_nothing_that_is_kept_holds_a_graph(model, gated, deep, pack):
    """Neither captures, differences, deep features nor what a probe compares with."""
    key = pack.core("host.keys").RUN_KEY
    probed = pack.nodes["TGATEProbe"].execute(model=model).args[0]
    for patched in (deep(gated(model, **SETTINGS, guidance="cached_delta"), cache_interval=3), probed):
        held = []

        class Looking(Differentiating):
            def __call__(self, denoise, x, sigmas, extra_args=None, held=held, **rest):
                run = extra_args["model_options"]["transformer_options"][key]
                return super().__call__(denoise, x, sigmas, extra_args, lambda _: held.extend(tensors_of(run)))

        sample(patched, Looking())
        assert held
        assert not any(tensor.requires_grad for tensor in held)


def tensors_of(value, seen=None):
    """All tensors that an object of ours holds, at any depth."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return []
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        inside = [*value, *value.values()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        inside = list(value)
    else:
        inside = list(getattr(value, "__dict__", {}).values())
    return [tensor for item in inside for tensor in tensors_of(item, seen)]


MIXED = {
    "captured in inference mode": ["inference"] * GATE + ["grad"] * (STEPS - GATE),
    "in turns": ["inference", "grad"] * (STEPS // 2),
    "captured with gradients": ["grad"] * GATE + ["inference"] * (STEPS - GATE),
}


@pytest.mark.parametrize("modes", MIXED.values(), ids=MIXED)
@pytest.mark.parametrize("guidance", GUIDANCE)
def test_gradients_in_some_steps_alone(model, gated, deep, guidance, modes):
    """The host runs nodes in inference mode; a sampler leaves it where it wants a gradient."""
    patched = deep(gated(model, **SETTINGS, guidance=guidance), cache_interval=3)
    assert len(slopes_of(patched, modes=modes)) == STEPS


@pytest.mark.parametrize("modes", [["grad"] * STEPS, *MIXED.values()], ids=["in each step", *MIXED])
@pytest.mark.parametrize("guidance", ["uncond", "cached_delta", "keep"])
def test_networks_without_attention_patches_let_gradients_through(gated, guidance, modes):
    """Beside a hook that scales what attentions put out: autograd saves that, whoever made it."""
    family = next(family for family in FAMILIES if family.name == "PixArt-Sigma")
    model = family.make()
    scale = torch.ones(1, requires_grad=True)
    for pair in family.pairs(model):
        for attention in pair:
            attention.register_forward_hook(lambda _module, _args, output: output * scale)
    slopes = slopes_of(gated(model, **SETTINGS, guidance=guidance), family.text, family.empty_latent(), modes=modes)
    assert all(slope is None or slope.abs().max() > 0 for slope in slopes)
