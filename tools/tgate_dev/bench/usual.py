"""What the preset of the simple node saves on each full-size model, in a run of its usual length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .audio import ACE_STEP, ACE_STEP_1_5, STABLE_AUDIO_OPEN
from .dits import (
    ANIMA,
    COSMOS_7B,
    COSMOS_PREDICT2_2B,
    HUNYUAN_DIT,
    KANDINSKY_5_LITE,
    LTXV_2B,
    PIXART_ALPHA,
    PIXART_SIGMA,
    WAN_I2V_14B,
    WAN_T2V_1_3B,
    WAN_T2V_14B,
)
from .macs import count_macs
from .models import FullSizeModel, build_on_meta
from .shapes import Macs
from .unets import SD15, SD21, SDXL, SVD

# Any scale with two branches costs the same.
GUIDED = 5.0


@dataclass(frozen=True)
class UsualRun:
    """A run as people make it: one row of the README's table of supported models.

    Attributes:
        name: what people call the model.
        output: what one run makes.
        model: the architecture.
        steps: sampling steps.
        contract: name of the tiny model that the contract tests sample for it.
        parity: name of the model that the published package is compared on; None where it has no such model.
        cfg: guidance scale.
    """

    name: str
    output: str
    model: FullSizeModel
    steps: int
    contract: str
    parity: str | None = None
    cfg: float = GUIDED


USUAL_RUNS = (
    UsualRun("SD 1.5", "512 × 512", SD15, 25, "two levels", "sd15"),
    UsualRun("SD 2.1", "768 × 768", SD21, 25, "two levels", "sd15"),
    UsualRun("SDXL, Playground 2.5", "1024 × 1024", SDXL, 25, "Playground 2.5", "sdxl"),
    UsualRun("LCM SDXL", "1024 × 1024", SDXL, 4, "Playground 2.5", "sdxl", cfg=1.0),
    UsualRun("Stable Video Diffusion XT", "1024 × 576, 25 frames", SVD, 25, "Stable Video Diffusion", "svd"),
    UsualRun("PixArt-Alpha", "1024 × 1024", PIXART_ALPHA, 25, "PixArt-Alpha", "pixart_alpha"),
    UsualRun("LCM PixArt-Alpha", "1024 × 1024", PIXART_ALPHA, 4, "PixArt-Alpha", "pixart_alpha", cfg=1.0),
    UsualRun("PixArt-Sigma", "1024 × 1024", PIXART_SIGMA, 25, "PixArt-Sigma", "pixart_sigma"),
    UsualRun("HunyuanDiT 1.2", "1024 × 1024", HUNYUAN_DIT, 30, "HunyuanDiT"),
    UsualRun("Cosmos Predict2 2B", "1024 × 1024", COSMOS_PREDICT2_2B, 30, "Cosmos Predict2"),
    UsualRun("Anima", "1024 × 1024", ANIMA, 30, "Anima"),
    UsualRun("Wan 2.1 T2V 1.3B", "832 × 480, 81 frames", WAN_T2V_1_3B, 30, "Wan T2V"),
    UsualRun("Wan 2.1 T2V 14B", "832 × 480, 81 frames", WAN_T2V_14B, 30, "Wan T2V"),
    UsualRun("Wan 2.1 I2V 14B", "832 × 480, 81 frames", WAN_I2V_14B, 30, "Wan I2V"),
    UsualRun("LTX-Video 2B", "768 × 512, 97 frames", LTXV_2B, 30, "LTX-Video"),
    UsualRun("Cosmos 1 7B", "1280 × 704, 121 frames", COSMOS_7B, 30, "Cosmos 1"),
    UsualRun("Kandinsky 5 Lite", "768 × 512, 121 frames", KANDINSKY_5_LITE, 30, "Kandinsky 5"),
    UsualRun("Stable Audio Open 1.0", "47.6 s", STABLE_AUDIO_OPEN, 50, "Stable Audio"),
    UsualRun("ACE-Step 1", "120 s", ACE_STEP, 50, "ACE-Step 1"),
    UsualRun("ACE-Step 1.5", "120 s", ACE_STEP_1_5, 50, "ACE-Step 1.5"),
)


def saved_at_preset(run: UsualRun, nodes: Mapping[str, Any], preset: str = "balanced") -> tuple[Macs, Macs]:
    """What the run costs plain, and with the simple node in front of the sampler.

    Args:
        run: the run.
        nodes: the pack's node classes by id.
        preset: the node's one setting.
    """
    plain = build_on_meta(run.model)
    gated = nodes["TGATEApply"].execute(model=plain, preset=preset).args[0]
    return (
        count_macs(plain, run.model, steps=run.steps, cfg=run.cfg),
        count_macs(gated, run.model, steps=run.steps, cfg=run.cfg),
    )
