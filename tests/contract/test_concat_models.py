"""Models that are given a picture beside the latent: inpainting, instruct-pix2pix, upscaling."""

from __future__ import annotations

import comfy_extras.nodes_ip2p as ip2p
import comfy_extras.nodes_sdupscale as sdupscale
import pytest
import tiny
import torch
import variants
from comfy.patcher_extension import WrappersMP
from record import recording
from reference import reference
from tiny import distance

import nodes as host_nodes

GUIDANCE = ["uncond", "cond", "cached_delta", "keep"]
SURVIVORS = {"uncond": [1], "cond": [0], "cached_delta": [0], "keep": [1, 0]}
EXACT = 1e-6  # of the latent's spread; the effect of T-GATE is above 1e-3
A, NEGATIVE = tiny.text(1), tiny.text(2)


@pytest.fixture(scope="module")
def vae():
    return variants.autoencoder()


def inpainted(vae, seed=0, noise_mask=True):
    """InpaintModelConditioning on a model of nine channels."""
    mask = torch.zeros(1, 64, 64)
    mask[:, 16:48, 8:40] = 1.0
    picture = variants.picture(seed=seed)
    positive, negative, latent = host_nodes.InpaintModelConditioning().encode(
        A, NEGATIVE, picture, vae, mask, noise_mask
    )
    return variants.inpaint(), {
        "positive": positive,
        "negative": negative,
        "latent": latent["samples"],
        "denoise_mask": latent.get("noise_mask"),
    }


def inpainted_whole(vae, seed=0):
    return inpainted(vae, seed, noise_mask=False)


def edited(vae, seed=0):
    """InstructPixToPixConditioning on a model of eight channels."""
    output = ip2p.InstructPixToPixConditioning.execute(A, NEGATIVE, variants.picture(seed=seed), vae)
    positive, negative, latent = output.args
    return variants.instruct_pix2pix(), {"positive": positive, "negative": negative, "latent": latent["samples"]}


def upscaled(_vae, seed=0, noise_augmentation=0.3):
    """SD_4XUpscale_Conditioning on a model of seven channels; the noise level is its class label."""
    output = sdupscale.SD_4XUpscale_Conditioning.execute(
        variants.picture(16, 16, seed), A, NEGATIVE, 4.0, noise_augmentation
    )
    positive, negative, latent = output.args
    return variants.upscaler(), {"positive": positive, "negative": negative, "latent": latent["samples"]}


def upscaled_clean(vae, seed=0):
    return upscaled(vae, seed, noise_augmentation=0.0)


MODELS = [inpainted, inpainted_whole, edited, upscaled, upscaled_clean]


def watch_concat(patched, seen):
    """Note of each network call its rows, and the rows and spread of what is concatenated."""

    def watch(executor, *args, **kwargs):
        x, _, c_concat = args[:3]
        seen.append((x.shape[0], c_concat.shape[0], float(c_concat.std())))
        return executor(*args, **kwargs)

    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "watch", watch)


@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize("make", MODELS)
def test_the_picture_is_given_in_every_step(gated, vae, make, guidance):
    model, run = make(vae)
    patched = gated(model, gate=3.0, guidance=guidance)
    seen = []
    watch_concat(patched, seen)
    with recording(model, patched) as record:
        result = tiny.sample(patched, steps=6, **run)
    assert [call.branches for call in record.calls] == [[1, 0]] * 3 + [SURVIVORS[guidance]] * 3
    assert [call.cross_attention for call in record.calls[3:]] == [0] * 3
    assert [rows for rows, _, _ in seen] == [concat for _, concat, _ in seen] == record.batches
    assert min(spread for _, _, spread in seen) > 0
    assert distance(result, tiny.sample(reference(model, 3, guidance), steps=6, **run)) < EXACT


@pytest.mark.parametrize("make", [inpainted, edited, upscaled])
def test_another_picture_gives_another_result_and_none_reaches_the_next_run(gated, vae, make):
    model, run = make(vae)
    _, other_run = make(vae, seed=1)
    patched = gated(model, gate=3.0, sp_interval=2, fi_interval=2)
    first = tiny.sample(patched, steps=6, **run)
    other = tiny.sample(patched, steps=6, **other_run)
    assert distance(first, other) > 1e-3
    assert torch.equal(tiny.sample(patched, steps=6, **run), first)


@pytest.mark.parametrize("make", MODELS)
def test_a_gate_beyond_the_run_changes_nothing(gated, vae, make):
    model, run = make(vae)
    patched = gated(model, gate=4.0, sp_interval=2)
    assert torch.equal(tiny.sample(patched, steps=4, **run), tiny.sample(model, steps=4, **run))


@pytest.mark.parametrize("guidance", GUIDANCE)
def test_text_in_attn1_is_frozen_like_any_cross_attention(gated, vae, guidance):
    """Most blocks of the upscaler give the text to attn1 too: after the gate no attention may read it."""
    model, run = upscaled(vae)
    reading = [a for block in tiny.blocks(model) for a in (block.attn1, block.attn2) if a.to_k.in_features == 32]
    text_blocks = sum(block.disable_self_attn for block in tiny.blocks(model))
    assert 0 < text_blocks < len(tiny.blocks(model))
    patched = gated(model, gate=3.0, guidance=guidance)
    with recording(model, patched) as record:
        tiny.sample(patched, steps=6, **run)
    blocks = len(tiny.blocks(model))
    assert len(reading) == 2 * blocks  # widths agree here, so that it is the input that tells them apart
    assert record.per_call("self_attention") == [blocks] * 3 + [blocks - text_blocks] * 3
    assert record.per_call("cross_attention") == [blocks] * 3 + [0] * 3
