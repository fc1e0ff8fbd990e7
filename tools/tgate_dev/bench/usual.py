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
_CFG = 5.0


@dataclass(frozen=True)
class UsualRun:
    """A run as people make it.

    Attributes:
        name: what people call the model.
        output: what one run makes.
        model: the architecture.
        steps: sampling steps.
    """

    name: str
    output: str
    model: FullSizeModel
    steps: int


USUAL_RUNS = (
    UsualRun("SD 1.5", "512 × 512", SD15, 25),
    UsualRun("SD 2.1", "768 × 768", SD21, 25),
    UsualRun("SDXL", "1024 × 1024", SDXL, 25),
    UsualRun("Stable Video Diffusion XT", "1024 × 576, 25 frames", SVD, 25),
    UsualRun("PixArt-Alpha", "1024 × 1024", PIXART_ALPHA, 25),
    UsualRun("PixArt-Sigma", "1024 × 1024", PIXART_SIGMA, 25),
    UsualRun("HunyuanDiT 1.2", "1024 × 1024", HUNYUAN_DIT, 30),
    UsualRun("Cosmos Predict2 2B", "1024 × 1024", COSMOS_PREDICT2_2B, 30),
    UsualRun("Anima", "1024 × 1024", ANIMA, 30),
    UsualRun("Wan 2.1 T2V 1.3B", "832 × 480, 81 frames", WAN_T2V_1_3B, 30),
    UsualRun("Wan 2.1 T2V 14B", "832 × 480, 81 frames", WAN_T2V_14B, 30),
    UsualRun("Wan 2.1 I2V 14B", "832 × 480, 81 frames", WAN_I2V_14B, 30),
    UsualRun("LTX-Video 2B", "768 × 512, 97 frames", LTXV_2B, 30),
    UsualRun("Cosmos 1 7B", "1280 × 704, 121 frames", COSMOS_7B, 30),
    UsualRun("Kandinsky 5 Lite", "768 × 512, 121 frames", KANDINSKY_5_LITE, 30),
    UsualRun("Stable Audio Open 1.0", "47.6 s", STABLE_AUDIO_OPEN, 50),
    UsualRun("ACE-Step 1", "120 s", ACE_STEP, 50),
    UsualRun("ACE-Step 1.5", "120 s", ACE_STEP_1_5, 50),
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
        count_macs(plain, run.model, steps=run.steps, cfg=_CFG),
        count_macs(gated, run.model, steps=run.steps, cfg=_CFG),
    )
