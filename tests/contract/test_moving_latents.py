"""Latents that change size, batch or place within a run: never what belongs to another one."""

from __future__ import annotations

import comfy.samplers
import pytest
import tiny
import torch
from comfy.patcher_extension import WrappersMP
from record import recording
from torch import Tensor

GUIDANCE = ["uncond", "cond", "cond_mean", "cached_delta", "keep"]
STEPS = 6
GATE = 2.0


@pytest.fixture(scope="module")
def model():
    return tiny.sd15(
        num_res_blocks=[1],
        channel_mult=[1],
        transformer_depth=[1],
        transformer_depth_output=[1, 1],
        transformer_depth_middle=1,
    )


def euler(before=lambda step, x: x, call=lambda step, model, x, sigma, extra: model(x, sigma, **extra)):
    """A sampler of another pack: Euler that may change the latent before a step, and calls the model its own way."""

    def sample(model, x, sigmas, extra_args=None, callback=None, disable=None, **_):
        for step in range(len(sigmas) - 1):
            x = before(step, x)
            denoised = call(step, model, x, sigmas[step] * x.new_ones([x.shape[0]]), extra_args or {})
            x = x + (x - denoised) / sigmas[step] * (sigmas[step + 1] - sigmas[step])
        return x

    return comfy.samplers.KSAMPLER(sample)


def sample(model, sampler, drawn, cfg=5.0):
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", STEPS)
    cond, uncond = tiny.text(1), tiny.text(2)
    return comfy.sample.sample_custom(
        model, drawn, cfg, sampler, sigmas, cond, uncond, torch.zeros_like(drawn), disable_pbar=True, seed=0
    )


def resized(step: int, x: Tensor) -> Tensor:
    if step in (3, 4):
        return torch.nn.functional.interpolate(x, size=(12, 8) if step == 3 else (8, 8), mode="nearest")
    return x


def fewer_rows(step: int, x: Tensor) -> Tensor:
    return x[:1] if step == 3 else x


def in_double(step: int, x: Tensor) -> Tensor:
    return x.double() if step == 3 else x.float() if step == 4 else x


@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize("change", [resized, fewer_rows, in_double])
def test_a_latent_that_changes_begins_anew(model, gated, change, guidance):
    """A run whose latent changes is two or three runs: what is held of one is not held against another."""
    patched, drawn = gated(model, gate=GATE, guidance=guidance), tiny.noise(3, batch=3)
    with recording(model, patched) as record:
        result = sample(patched, euler(change), drawn)
    expected = sample(model, euler(change), drawn)
    assert result.shape == expected.shape
    assert torch.isfinite(result).all()
    if guidance == "keep":
        return
    by_sigma = dict.fromkeys(record.sigmas[:-1], 0)
    for call in record.calls:
        by_sigma[call.sigma] += len(call.branches)
    assert list(by_sigma.values())[:4] == [2, 2, 1, 2]


@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize("dim", [-1, -2])
def test_a_sampler_that_rolls_the_latent_is_computed_in_full(model, gated, guidance, dim):
    def rolled(step, network, x, sigma, extra):
        return network(x.roll(step % 3 + 1, dim), sigma, **extra).roll(-(step % 3 + 1), dim)

    sampler, drawn = euler(call=rolled), tiny.noise(3)
    patched = gated(model, gate=GATE, guidance=guidance, sp_interval=2, fi_interval=2)
    assert torch.equal(sample(patched, sampler, drawn), sample(model, sampler, drawn))


def test_a_sampler_that_rotates_the_frames_is_computed_in_full(model, gated):
    def rotated(step, network, x, sigma, extra):
        return network(x.roll(step + 1, 0), sigma, **extra).roll(-step - 1, 0)

    sampler, drawn = euler(call=rotated), tiny.noise(3, batch=4)
    assert torch.equal(sample(gated(model, gate=GATE), sampler, drawn), sample(model, sampler, drawn))


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_a_sampler_of_another_pack_that_moves_nothing_is_gated(model, gated, guidance):
    patched, drawn = gated(model, gate=GATE, guidance=guidance), tiny.noise(3)
    own = sample(patched, comfy.samplers.sampler_object("euler"), drawn)
    with recording(model, patched) as record:
        other = sample(patched, euler(), drawn)
    assert (other - own).abs().max() < 1e-4 * own.std()
    assert record.per_call("cross_attention") == [4, 4, 0, 0, 0, 0]


def test_the_host_says_why_a_moving_latent_saves_nothing(model, gated, caplog):
    def rolled(step, network, x, sigma, extra):
        return network(x.roll(step % 3 + 1, -1), sigma, **extra).roll(-(step % 3 + 1), -1)

    with caplog.at_level("INFO"):
        sample(gated(model, gate=GATE), euler(call=rolled), tiny.noise(3))
    assert "the sampler moves the latent between steps" in caplog.text


def rolling_unet_wrapper(model):
    """A unet wrapper that rolls the whole latent by another amount in each step: its shape stays the same."""
    patched, seen = model.clone(), []

    def wrapper(apply_model, args):
        seen.append(float(args["timestep"][0])) if float(args["timestep"][0]) not in seen else None
        shift = len(seen) % 3 + 1
        return apply_model(args["input"].roll(shift, -1), args["timestep"], **args["c"]).roll(-shift, -1)

    patched.set_model_unet_function_wrapper(wrapper)
    return patched


def rolling_call_wrapper(kind):
    """The same as a wrapper of one of the host's kinds, its latent the first argument but for CALC_COND_BATCH."""

    def add(model):
        patched, seen = model.clone(), []

        def wrapper(executor, *args, **kwargs):
            place = 2 if kind == WrappersMP.CALC_COND_BATCH else 0
            sigma = float(args[3 if kind == WrappersMP.CALC_COND_BATCH else 1].flatten()[0])
            if sigma not in seen:
                seen.append(sigma)
            shift = len(seen) % 3 + 1
            arguments = [*args]
            arguments[place] = args[place].roll(shift, -1)
            result = executor(*arguments, **kwargs)
            if isinstance(result, list):
                return [one.roll(-shift, -1) for one in result]
            return result.roll(-shift, -1)

        patched.add_wrapper_with_key(kind, "rolling", wrapper)
        return patched

    return add


ROLLING = {
    "unet wrapper": rolling_unet_wrapper,
    "CALC_COND_BATCH": rolling_call_wrapper(WrappersMP.CALC_COND_BATCH),
    "APPLY_MODEL": rolling_call_wrapper(WrappersMP.APPLY_MODEL),
    "DIFFUSION_MODEL": rolling_call_wrapper(WrappersMP.DIFFUSION_MODEL),
}


@pytest.mark.parametrize("is_before", [True, False], ids=["before", "behind"])
@pytest.mark.parametrize("name", ROLLING)
def test_a_wrapper_that_rolls_the_latent_gets_no_other_place(model, gated, deep, name, is_before):
    """Guidance may go, as it is held for the whole latent; attention and deep features are not reused."""
    settings = {"gate": GATE, "guidance": "keep", "sp_interval": 2, "fi_interval": 2}
    roll, drawn = ROLLING[name], tiny.noise(3)
    gate_it = lambda source: deep(gated(source, **settings), cache_interval=3)  # noqa: E731
    patched = gate_it(roll(model)) if is_before else roll(gate_it(model))
    assert torch.equal(
        tiny.sample(patched, drawn=drawn, steps=STEPS), tiny.sample(roll(model), drawn=drawn, steps=STEPS)
    )


def animate_diff_windows(model, windows_of_step):
    """Windows of AnimateDiff-Evolved: a CALC_COND_BATCH wrapper that tells other nodes which frames it evaluates."""
    patched, seen = model.clone(), []
    patched.model_options["transformer_options"]["ad_params"] = {"sub_idxs": None}

    def wrapper(executor, network, conds, x, timestep, options):
        sigma = float(timestep.flatten()[0])
        if sigma not in seen:
            seen.append(sigma)
        totals = [torch.zeros_like(x) for _ in conds]
        counts = x.new_zeros(x.shape[0], 1, 1, 1)
        for frames in windows_of_step(len(seen) - 1):
            options["transformer_options"]["ad_params"]["sub_idxs"] = frames
            parts = executor(network, conds, x[frames], timestep[frames], options)
            options["transformer_options"]["ad_params"]["sub_idxs"] = None
            counts[frames] += 1
            for total, part in zip(totals, parts, strict=True):
                total[frames] += part
        return [total / counts for total in totals]

    patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "ADE_sliding_context", wrapper)
    return patched


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_windows_of_animatediff_are_gated_like_the_hosts(model, gated, guidance):
    settings = {"gate": GATE, "guidance": guidance}
    drawn = tiny.noise(3, batch=8)
    patched = gated(animate_diff_windows(model, lambda step: [[0, 1, 2, 3], [4, 5, 6, 7]]), **settings)
    with recording(model, patched) as record:
        result = tiny.sample(patched, drawn=drawn, steps=STEPS)
    alone = [tiny.sample(gated(model, **settings), drawn=part, steps=STEPS) for part in drawn.split(4)]
    assert (result - torch.cat(alone)).abs().max() < 1e-4 * result.std()
    assert record.per_call("cross_attention") == [4] * 4 + [0] * 8


@pytest.mark.parametrize("is_before", [True, False], ids=["before", "behind"])
@pytest.mark.parametrize("guidance", GUIDANCE)
def test_looped_windows_that_rotate_the_frames_reuse_nothing_of_another_frame(model, gated, deep, guidance, is_before):
    """A closed loop over all frames begins elsewhere in each step: the shape is that of the whole latent."""

    def windows(source):
        return animate_diff_windows(source, lambda step: [[(step + frame) % 4 for frame in range(4)]])

    def gate_it(source):
        return deep(gated(source, gate=GATE, guidance=guidance, sp_interval=2, fi_interval=2), cache_interval=3)

    patched = gate_it(windows(model)) if is_before else windows(gate_it(model))
    drawn = tiny.noise(3, batch=4)
    with recording(model, patched) as record:
        result = tiny.sample(patched, drawn=drawn, steps=STEPS)
    plain = tiny.sample(windows(model), drawn=drawn, steps=STEPS)
    assert min(record.per_call("cross_attention")) == 4
    if is_before or guidance in ("keep", "uncond", "cond_mean"):
        assert torch.equal(result, plain)
