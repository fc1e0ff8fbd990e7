"""The table of supported models: what the default preset saves on each, counted at full size through the node."""

from __future__ import annotations

from typing import NamedTuple

from . import dits, unets
from .models import FullSizeModel, build_on_meta, count_macs
from .pack import Macs, Nodes, attentions, preset
from .published import TERA

# Every scale that needs two branches costs the same.
GUIDED = 5.0
HEADING = (
    "| model | one run | settings | gated attentions, self + cross | tested | MACs, T | saved | saved, in full |\n"
    "| --- | --- | --- | --- | --- | --- | ---: | ---: |"
)


class UsualRun(NamedTuple):
    """One row of the table.

    Attributes:
        name: name of the model.
        output: size of the output.
        model: the architecture.
        steps: sampling steps.
        contract: name of its tiny model in the contract tests.
        parity: name of its model in the parity tests; None if the published package does not support it.
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
    UsualRun("SD 1.5", "512 × 512", unets.SD15, 25, "two levels", "sd15"),
    UsualRun("SD 2.1", "768 × 768", unets.SD21, 25, "two levels", "sd15"),
    UsualRun("SDXL, Playground 2.5", "1024 × 1024", unets.SDXL, 25, "Playground 2.5", "sdxl"),
    UsualRun("LCM SDXL", "1024 × 1024", unets.SDXL, 4, "Playground 2.5", "sdxl", cfg=1.0),
    UsualRun("Stable Video Diffusion XT", "1024 × 576, 25 frames", unets.SVD, 25, "Stable Video Diffusion", "svd"),
    UsualRun("PixArt-Alpha", "1024 × 1024", dits.PIXART_ALPHA, 25, "PixArt-Alpha", "pixart_alpha"),
    UsualRun("LCM PixArt-Alpha", "1024 × 1024", dits.PIXART_ALPHA, 4, "PixArt-Alpha", "pixart_alpha", cfg=1.0),
    UsualRun("PixArt-Sigma", "1024 × 1024", dits.PIXART_SIGMA, 25, "PixArt-Sigma", "pixart_sigma"),
    UsualRun("HunyuanDiT 1.2", "1024 × 1024", dits.HUNYUAN_DIT, 30, "HunyuanDiT"),
    UsualRun("Cosmos Predict2 2B", "1024 × 1024", dits.COSMOS_PREDICT2_2B, 30, "Cosmos Predict2"),
    UsualRun("Anima", "1024 × 1024", dits.ANIMA, 30, "Anima"),
    UsualRun("Wan 2.1 T2V 1.3B", "832 × 480, 81 frames", dits.WAN_T2V_1_3B, 30, "Wan T2V"),
    UsualRun("Wan 2.1 T2V 14B", "832 × 480, 81 frames", dits.WAN_T2V_14B, 30, "Wan T2V"),
    UsualRun("Wan 2.1 I2V 14B", "832 × 480, 81 frames", dits.WAN_I2V_14B, 30, "Wan I2V"),
    UsualRun("LTX-Video 2B", "768 × 512, 97 frames", dits.LTXV_2B, 30, "LTX-Video"),
    UsualRun("Cosmos 1 7B", "1280 × 704, 121 frames", dits.COSMOS_7B, 30, "Cosmos 1"),
    UsualRun("Kandinsky 5 Lite", "768 × 512, 121 frames", dits.KANDINSKY_5_LITE, 30, "Kandinsky 5"),
    UsualRun("Stable Audio Open 1.0", "47.6 s", dits.STABLE_AUDIO_OPEN, 50, "Stable Audio"),
    UsualRun("ACE-Step 1", "120 s", dits.ACE_STEP, 50, "ACE-Step 1"),
    UsualRun("ACE-Step 1.5", "120 s", dits.ACE_STEP_1_5, 50, "ACE-Step 1.5"),
)


def line(run: UsualRun, nodes: Nodes) -> str:
    """One row of the table.

    Args:
        run: the run.
        nodes: the pack's node classes by id.
    """
    settings = "experimental" if preset(build_on_meta(run.model), nodes).is_experimental else "published"
    tested = "parity, contract" if run.parity else "contract"
    plain, gated = saved_at_preset(run, nodes)
    counted = f"{plain.layers / TERA:.3f} → {gated.layers / TERA:.3f}"
    shares = (f"{100 * (1 - gated.layers / plain.layers):.0f} %", f"{100 * (1 - gated.full / plain.full):.0f} %")
    steps = f"{run.output}, {run.steps} steps"
    return f"| {' | '.join((run.name, steps, settings, gated_attentions(run, nodes), tested, counted, *shares))} |"


def gated_attentions(run: UsualRun, nodes: Nodes) -> str:
    """Number of self- and cross-attentions that the pack gates."""
    kinds = [attention.kind for attention in attentions(build_on_meta(run.model).model.diffusion_model, nodes)]
    return f"{kinds.count('attn1')} + {kinds.count('attn2')}"


def saved_at_preset(run: UsualRun, nodes: Nodes) -> tuple[Macs, Macs]:
    """MACs of the run, plain and with the simple node at its default."""
    plain = build_on_meta(run.model)
    gated = nodes["TGATEApply"].execute(model=plain, preset=preset(plain, nodes).preset).args[0]
    settings = {"steps": run.steps, "cfg": run.cfg}
    return count_macs(plain, run.model, nodes, **settings), count_macs(gated, run.model, nodes, **settings)
