"""Models that share the UNet's blocks and are cut differently are gated like the rest."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import tiny
import torch
import unet_kin
import variants
from reference import reference
from tiny import distance

pytestmark = pytest.mark.newest

ROUNDING = 1e-4
SCHEDULE = {"gate": 5, "sp_interval": 2, "fi_interval": 2, "warm_up": 1}


@dataclass(frozen=True)
class Kin:
    """A model, what its node calls it, what it is sampled with besides texts, and what rounding makes of its result."""

    make: Any
    family: str
    inputs: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    rounding: float = ROUNDING

    def sample(self, model: Any, **options: Any) -> torch.Tensor:
        """One run of the host's KSampler."""
        texts = {"positive": tiny.text(1, **self.inputs), "negative": tiny.text(2, **self.inputs)}
        return tiny.sample(model, **texts, **self.options, **options)


POOLED = {"pooled_output": torch.linspace(-1, 1, 1280)[None]}
VIDEO = {"latent": torch.zeros(unet_kin.FRAMES, 4, 8, 8)}
SVD = {
    "tokens": 1,
    "concat_latent_image": torch.linspace(-1, 1, 256).reshape(1, 4, 8, 8),
    "video_frames": unet_kin.FRAMES,
}
KINS = {
    "SSD-1B": Kin(unet_kin.ssd_1b, "sdxl", POOLED),
    "Segmind Vega": Kin(unet_kin.vega, "sdxl", POOLED),
    "KOALA": Kin(unet_kin.koala, "sdxl", POOLED),
    "Playground 2.5": Kin(unet_kin.playground, "playground-2.5", POOLED),
    "AnimateDiff": Kin(unet_kin.animated, "sd15", {}, VIDEO, rounding=3e-4),
    "Stable Video Diffusion": Kin(variants.svd, "svd", SVD, VIDEO),
}


@pytest.fixture(scope="module", params=KINS)
def kin(request) -> Kin:
    return KINS[request.param]


@pytest.fixture(scope="module")
def model(kin):
    return kin.make()


@pytest.mark.parametrize("guidance", ["uncond", "cond", "cond_mean", "cached_delta", "keep"])
def test_a_run_is_what_the_schedule_says(kin, model, gated, guidance):
    expected = kin.sample(reference(model, **SCHEDULE, guidance=guidance))
    result = kin.sample(gated(model, **{**SCHEDULE, "gate": 5.0}, guidance=guidance))
    assert distance(result, expected) < kin.rounding
    assert distance(expected, kin.sample(model)) > 10 * kin.rounding


def test_off_is_bit_equal(kin, model, gated):
    assert torch.equal(kin.sample(gated(model, gate=100.0, sp_interval=3)), kin.sample(model))


def test_the_preset_is_the_one_of_its_family(kin, model, pack):
    patched = pack.nodes["TGATEApply"].execute(model=model, preset="balanced").args[0]
    assert patched.model_options["transformer_options"]["tgate_techniques"]["gate"].config.family == kin.family
