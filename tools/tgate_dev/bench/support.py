"""The table of supported models: what the default preset saves on each, counted at full size through the node."""

from __future__ import annotations

from typing import Any, NamedTuple

from .. import readme
from . import models
from .counting import build_on_meta, count_macs
from .models import FullSizeModel
from .pack import CROSS_ATTENTION, PACK, SELF_ATTENTION, Macs, Nodes, attention_sites, preset, presets
from .published import TERA

# Where the table stands, in English and in Chinese.
DOCUMENTS = ("docs/models.md", "docs/models.zh.md")
# Every scale that needs two branches costs the same.
GUIDED = 5.0
HEADING = (
    "| model | one run | settings | gated attentions, self + cross | tested | MACs, T | saved | saved, in full |\n"
    "| --- | --- | --- | --- | --- | --- | ---: | ---: |"
)


class UsualRun(NamedTuple):
    """One row of the table."""

    name: str
    output: str  # its size
    model: FullSizeModel
    steps: int
    contract: str  # name of its tiny model in the contract tests
    parity: str | None = None  # the same in the parity tests; None if the published package does not support it
    cfg: float = GUIDED


USUAL_RUNS = (
    UsualRun("SD 1.5", "512 × 512", models.SD15, 25, "two levels", "sd15"),
    UsualRun("SD 2.1", "768 × 768", models.SD21, 25, "two levels", "sd15"),
    UsualRun("SDXL, Playground 2.5", "1024 × 1024", models.SDXL, 25, "Playground 2.5", "sdxl"),
    UsualRun("LCM SDXL", "1024 × 1024", models.SDXL, 4, "Playground 2.5", "sdxl", cfg=1.0),
    UsualRun("Stable Video Diffusion XT", "1024 × 576, 25 frames", models.SVD, 25, "Stable Video Diffusion", "svd"),
    UsualRun("PixArt-Alpha", "1024 × 1024", models.PIXART_ALPHA, 25, "PixArt-Alpha", "pixart_alpha"),
    UsualRun("LCM PixArt-Alpha", "1024 × 1024", models.PIXART_ALPHA, 4, "PixArt-Alpha", "pixart_alpha", cfg=1.0),
    UsualRun("PixArt-Sigma", "1024 × 1024", models.PIXART_SIGMA, 25, "PixArt-Sigma", "pixart_sigma"),
    UsualRun("HunyuanDiT 1.2", "1024 × 1024", models.HUNYUAN_DIT, 30, "HunyuanDiT"),
    UsualRun("Cosmos Predict2 2B", "1024 × 1024", models.COSMOS_PREDICT2_2B, 30, "Cosmos Predict2"),
    UsualRun("Anima", "1024 × 1024", models.ANIMA, 30, "Anima"),
    UsualRun("Wan 2.1 T2V 1.3B", "832 × 480, 81 frames", models.WAN_T2V_1_3B, 30, "Wan T2V"),
    UsualRun("Wan 2.1 T2V 14B", "832 × 480, 81 frames", models.WAN_T2V_14B, 30, "Wan T2V"),
    UsualRun("Wan 2.1 I2V 14B", "832 × 480, 81 frames", models.WAN_I2V_14B, 30, "Wan I2V"),
    UsualRun("LTX-Video 2B", "768 × 512, 97 frames", models.LTXV_2B, 30, "LTX-Video"),
    UsualRun("Cosmos 1 7B", "1280 × 704, 121 frames", models.COSMOS_7B, 30, "Cosmos 1"),
    UsualRun("Kandinsky 5 Lite", "768 × 512, 121 frames", models.KANDINSKY_5_LITE, 30, "Kandinsky 5"),
    UsualRun("Stable Audio Open 1.0", "47.6 s", models.STABLE_AUDIO_OPEN, 50, "Stable Audio"),
    UsualRun("ACE-Step 1", "120 s", models.ACE_STEP, 50, "ACE-Step 1"),
    UsualRun("ACE-Step 1.5", "120 s", models.ACE_STEP_1_5, 50, "ACE-Step 1.5"),
)


def measure(_options: Any, nodes: Nodes) -> int:
    """Print the table, and put it into the documents."""
    print(HEADING, flush=True)
    table = HEADING
    for run in USUAL_RUNS:
        row = line(run, nodes)
        print(row, flush=True)
        table += f"\n{row}"
    english, chinese = (PACK / name for name in DOCUMENTS)
    readme.replace_section(english, "support", table)
    readme.replace_section(chinese, "support", readme.chinese_table(table))
    return 0


def line(run: UsualRun, nodes: Nodes) -> str:
    """One row of the table."""
    settings = "experimental" if preset(build_on_meta(run.model), nodes).is_experimental else "published"
    tested = "parity, contract" if run.parity else "contract"
    plain, gated = saved_at_preset(run, nodes)
    counted = f"{plain.layers / TERA:.3f} → {gated.layers / TERA:.3f}"
    shares = (f"{100 * (1 - gated.layers / plain.layers):.0f} %", f"{100 * (1 - gated.full / plain.full):.0f} %")
    steps = f"{run.output}, {run.steps} steps"
    return f"| {' | '.join((run.name, steps, settings, gated_attentions(run, nodes), tested, counted, *shares))} |"


def gated_attentions(run: UsualRun, nodes: Nodes) -> str:
    """Number of self- and cross-attentions that the pack gates."""
    sites = attention_sites(build_on_meta(run.model).model.diffusion_model, nodes)
    kinds = [site.rule.kind for site in sites]
    return f"{kinds.count(SELF_ATTENTION)} + {kinds.count(CROSS_ATTENTION)}"


def saved_at_preset(run: UsualRun, nodes: Nodes) -> tuple[Macs, Macs]:
    """MACs of the run, plain and with the simple node at its default."""
    plain = build_on_meta(run.model)
    gated = nodes["TGATEApply"].execute(model=plain, preset=presets(nodes)[0]).args[0]
    settings = {"steps": run.steps, "cfg": run.cfg}
    return count_macs(plain, run.model, nodes, **settings), count_macs(gated, run.model, nodes, **settings)
