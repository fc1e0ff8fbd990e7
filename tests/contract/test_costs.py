"""The MACs that are told of a run are those of the layers that run in it."""

from __future__ import annotations

import pytest
import tiny
import torch
from families import FAMILIES
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

# On older hosts torch's counter names attention's own products as it names layers', so the two cannot be compared.
pytestmark = pytest.mark.newest

# What is done once a call (embeddings of time) is counted per row, and what is done outside of the network (Stable
# Audio's embedders of seconds) is not: it shows beside networks as tiny as these.
BESIDE_THE_ROWS = 0.03
# It groups tokens by values.
NEEDS_VALUES = "ACE-Step 1.5"
GATED = {"gate": 4.0, "sp_interval": 2, "fi_interval": 2, "warm_up": 1}


@pytest.fixture
def told(pack):
    """MACs of the last run of a model, made and without T-GATE."""

    def count(patched):
        record = pack.core("host.install").records_of(patched).last
        return pack.core("host.costs").count_run(patched, record)

    return count


def seen(sample):
    """MACs of the layers that run while something is sampled."""
    macs = []

    def count(module, inputs, output):
        if isinstance(module, nn.Linear):
            macs.append(inputs[0].numel() * module.out_features)
        elif isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            macs.append(output.numel() * module.weight[0].numel())

    hook = register_module_forward_hook(count)
    try:
        sample()
    finally:
        hook.remove()
    return sum(macs)


@pytest.mark.parametrize("guidance", ["uncond", "cached_delta", "keep"])
def test_a_gated_unet(gated, told, guidance):
    model = tiny.sd15()
    patched = gated(model, **GATED, guidance=guidance)
    made, plain = seen(lambda: tiny.sample(patched)), seen(lambda: tiny.sample(model))
    cost = told(patched)
    assert cost.made == pytest.approx(made, rel=1e-6)
    assert cost.plain == pytest.approx(plain, rel=1e-6)
    assert cost.saved_share == pytest.approx(1 - made / plain)


@pytest.mark.parametrize("has_gate", [False, True])
def test_deep_cache(gated, deep, told, has_gate):
    model = tiny.sd15()
    patched = deep(gated(model, **GATED)) if has_gate else deep(model)
    made = seen(lambda: tiny.sample(patched))
    assert told(patched).made == pytest.approx(made, rel=1e-6)


def test_other_sizes_and_areas_count_as_what_they_are(gated, told):
    model = tiny.sd15()
    area = tiny.text(3, area=(4, 8, 0, 0))
    run = {"positive": [*tiny.text(1), *area], "latent": torch.zeros(2, 4, 8, 12)}
    patched = gated(model, **GATED, guidance="cond")
    made = seen(lambda: tiny.sample(patched, **run))
    assert told(patched).made == pytest.approx(made, rel=1e-6)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_other_networks(family, gated, told):
    if not family.is_available:
        pytest.skip("this host does not know the model")
    model = family.make()
    patched = gated(model, **GATED)
    made, plain = seen(lambda: family.sample(patched)), seen(lambda: family.sample(model))
    if family.name == NEEDS_VALUES:
        with pytest.raises(Exception, match="bincount"):
            told(patched)
        return
    cost = told(patched)
    assert cost.made == pytest.approx(made, rel=BESIDE_THE_ROWS)
    assert cost.plain == pytest.approx(plain, rel=BESIDE_THE_ROWS)


def test_a_model_that_shapes_alone_cannot_run_is_an_error_that_says_so(gated, told, pack):
    class Nosy(torch.nn.Module):
        def forward(self, x):
            return x * float(x.sum() > 0)

    patched = gated(tiny.sd15())
    tiny.sample(patched)
    patched.model.diffusion_model.out.append(Nosy())
    with pytest.raises(pack.core("host.costs").UncountableError, match="DataDependent"):
        told(patched)
