"""TGATE Report: what it says of a run, where it finds it, and that it changes nothing."""

from __future__ import annotations

import re

import pytest
import tiny
import torch
from joint_families import JOINT_FAMILIES


@pytest.fixture(scope="module")
def model():
    return tiny.sd15()


@pytest.fixture
def report(pack):
    """Latent, text and picture that the node gives."""

    def ask(patched, samples):
        return pack.nodes["TGATEReport"].execute(model=patched, latent={"samples": samples, "mark": 1}).args

    return ask


def test_a_gated_run(model, gated, report):
    patched = gated(model, gate=4.0, guidance="cached_delta", self_attention=False)
    samples = tiny.sample(patched)
    latent, text, picture = report(patched, samples)
    assert latent == {"samples": samples, "mark": 1}
    assert "Steps: 4 of 8 gated, from step 4 on" in text
    assert "Attention: 28 of 112 calls reused" in text
    assert "Guidance: second pass left out 4 of 8 times" in text
    assert "G ->" in text
    assert "% saved" in text
    assert "Why not" not in text
    assert picture.shape[0] == 1
    assert picture.shape[-1] == 3
    assert 0 <= float(picture.min()) < float(picture.max()) <= 1


@pytest.mark.parametrize(
    ("settings", "run", "reason"),
    [
        ({"gate": 30.0}, {}, "the gate lies beyond this run of 8 steps"),
        ({}, {"cfg": 1.0}, "cfg is 1: no second pass to save"),
        ({"guidance": "uncond"}, {"positive": [*tiny.text(1), *tiny.text(3)]}, "several conds"),
    ],
)
def test_why_not_more(model, gated, report, settings, run, reason):
    patched = gated(model, **settings)
    _, text, _ = report(patched, tiny.sample(patched, **run))
    assert f"Why not more: {reason}" in text or f"Why not more: guidance kept: a branch has {reason}" in text


def test_deep_cache_alone(model, deep, report):
    patched = deep(model)
    _, text, _ = report(patched, tiny.sample(patched))
    assert text.startswith("DeepCache: 5 of 8 network calls left out the deep blocks")


def test_models_without_a_run(model, gated, report):
    nothing = torch.zeros(1, 4, 8, 8)
    assert "no TGATE node is on this model" in report(model, nothing)[1]
    assert "has not been sampled yet" in report(gated(model), nothing)[1]


def test_a_model_with_joint_attention(model, report, monkeypatch):
    class Flux(torch.nn.Module):
        __module__, __qualname__ = "comfy.ldm.flux.model", "Flux"

    joint = model.clone()
    joint.add_object_patch("diffusion_model", Flux())
    assert "joint attention" in report(joint, torch.zeros(1, 4, 8, 8))[1]


@pytest.mark.newest
@pytest.mark.parametrize("name", ["Flux", "SD 3.5", "Z-Image", "CogVideoX", "HunyuanVideo 1.5"])
def test_joint_attention_has_its_passes_and_macs_counted(report, gated, name):
    """As modules, within blocks, and where guidance alone is dropped."""
    (family,) = [family for family in JOINT_FAMILIES if family.name == name]
    model = family.make()
    patched = gated(model, gate=2.0, guidance="cached_delta", fi_interval=2, sp_interval=1)
    _, text, _ = report(patched, family.sample(patched))
    assert "Steps: 4 of 6 gated, from step 2 on" in text
    assert "Guidance: second pass left out 4 of 6 times" in text
    reused, of_all = map(int, re.search(r"Attention: (\d+) of (\d+) calls reused", text).groups())
    # In two of six calls, those of steps 3 and 5.
    assert 3 * reused == of_all if family.is_reused else not reused
    saved = int(re.search(r"MACs: .*\((\d+)% saved\)", text)[1])
    assert saved > 33 if family.is_reused else saved == 33


def test_a_latent_that_went_on_through_other_nodes(model, gated, report):
    patched = gated(model)
    samples = tiny.sample(patched)
    assert "shown is the run that ended last" not in report(patched, samples)[1]
    assert "shown is the run that ended last" in report(patched, samples.flip(-1))[1]
