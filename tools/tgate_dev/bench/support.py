"""The table of supported models: what the default preset saves on each, counted at full size through the node."""

from __future__ import annotations

from typing import Any, NamedTuple

from .. import readme
from . import joint_models, models
from .counting import build_on_meta, count_macs
from .models import FullSizeModel
from .pack import (
    CROSS_ATTENTION,
    PACK,
    SELF_ATTENTION,
    Macs,
    Nodes,
    attention_sites,
    pack_core,
    preset,
    presets,
    scope_of,
)
from .published import TERA

# Where the table stands, in English and in Chinese.
DOCUMENTS = ("docs/models.md", "docs/models.zh.md")
HEADING = (
    "| model | one run | settings | gated attentions, self + cross | tested | MACs, T | saved | saved, in full "
    "| why not more |\n| --- | --- | --- | --- | --- | --- | ---: | ---: | --- |"
)


class UsualRun(NamedTuple):
    """One row of the table."""

    name: str
    output: str  # its size
    model: FullSizeModel
    steps: int
    cfg: float
    contract: str  # name of its tiny model in the contract tests
    parity: str | None = None  # the same in the parity tests; None if the published package does not support it


USUAL_RUNS = (
    UsualRun("SD 1.5", "512 × 512", models.SD15, 25, 7.5, "two levels", "sd15"),
    UsualRun("SD 2.1", "768 × 768", models.SD21, 25, 7.5, "two levels", "sd15"),
    UsualRun("SDXL, Playground 2.5", "1024 × 1024", models.SDXL, 25, 5.0, "Playground 2.5", "sdxl"),
    UsualRun("LCM SDXL", "1024 × 1024", models.SDXL, 4, 1.0, "Playground 2.5", "sdxl"),
    UsualRun(
        "Stable Video Diffusion XT", "1024 × 576, 25 frames", models.SVD, 25, 3.0, "Stable Video Diffusion", "svd"
    ),
    UsualRun("PixArt-Alpha", "1024 × 1024", models.PIXART_ALPHA, 25, 4.5, "PixArt-Alpha", "pixart_alpha"),
    UsualRun("LCM PixArt-Alpha", "1024 × 1024", models.PIXART_ALPHA, 4, 1.0, "PixArt-Alpha", "pixart_alpha"),
    UsualRun("PixArt-Sigma", "1024 × 1024", models.PIXART_SIGMA, 25, 4.5, "PixArt-Sigma", "pixart_sigma"),
    UsualRun("HunyuanDiT 1.2", "1024 × 1024", models.HUNYUAN_DIT, 30, 6.0, "HunyuanDiT"),
    UsualRun("Cosmos Predict2 2B", "1024 × 1024", models.COSMOS_PREDICT2_2B, 30, 4.0, "Cosmos Predict2"),
    UsualRun("Anima", "1024 × 1024", models.ANIMA, 30, 4.0, "Anima"),
    UsualRun("Wan 2.1 T2V 1.3B", "832 × 480, 81 frames", models.WAN_T2V_1_3B, 30, 6.0, "Wan T2V"),
    UsualRun("Wan 2.1 T2V 14B", "832 × 480, 81 frames", models.WAN_T2V_14B, 30, 6.0, "Wan T2V"),
    UsualRun("Wan 2.1 I2V 14B", "832 × 480, 81 frames", models.WAN_I2V_14B, 30, 6.0, "Wan I2V"),
    UsualRun("Wan 2.2 TI2V 5B", "1280 × 704, 121 frames", models.WAN22_TI2V_5B, 20, 5.0, "Wan T2V"),
    UsualRun("Wan 2.2 14B", "each of two experts, 832 × 480, 81 frames", models.WAN_T2V_14B, 10, 3.5, "Wan T2V"),
    UsualRun("LTX-Video 2B", "768 × 512, 97 frames", models.LTXV_2B, 30, 3.0, "LTX-Video"),
    UsualRun("Cosmos 1 7B", "1280 × 704, 121 frames", models.COSMOS_7B, 30, 6.5, "Cosmos 1"),
    UsualRun("Kandinsky 5 Lite", "768 × 512, 121 frames", models.KANDINSKY_5_LITE, 30, 5.0, "Kandinsky 5"),
    UsualRun("Kandinsky 5 Image", "1024 × 1024", models.KANDINSKY_5_IMAGE, 50, 3.5, "Kandinsky 5"),
    UsualRun("Stable Audio Open 1.0", "47.6 s", models.STABLE_AUDIO_OPEN, 50, 5.0, "Stable Audio"),
    UsualRun("Stable Audio 3", "150 s", models.STABLE_AUDIO_3, 50, 7.0, "Stable Audio 3"),
    UsualRun("ACE-Step 1", "120 s", models.ACE_STEP, 50, 5.0, "ACE-Step 1"),
    UsualRun("ACE-Step 1.5", "120 s", models.ACE_STEP_1_5, 50, 5.0, "ACE-Step 1.5"),
    UsualRun("LTX-2", "768 × 512, 97 frames", models.LTX_2, 20, 3.0, "LTX-2"),
    UsualRun("SD 3.5 Medium", "1024 × 1024", joint_models.SD35_MEDIUM, 20, 4.0, "SD 3.5"),
    UsualRun("SD 3.5 Large", "1024 × 1024", joint_models.SD35_LARGE, 20, 4.0, "SD 3.5"),
    UsualRun("AuraFlow 0.3", "1024 × 1024", joint_models.AURA_FLOW, 50, 3.5, "AuraFlow"),
    UsualRun("Qwen-Image", "1328 × 1328", joint_models.QWEN_IMAGE, 50, 4.0, "Qwen-Image"),
    UsualRun("Qwen-Image-Edit 2511", "1024 × 1024", joint_models.QWEN_IMAGE_EDIT, 40, 4.0, "Qwen-Image-Edit"),
    UsualRun("Z-Image", "1024 × 1024", joint_models.Z_IMAGE, 25, 4.0, "Z-Image"),
    UsualRun("Z-Image Turbo", "1024 × 1024", joint_models.Z_IMAGE, 8, 1.0, "Z-Image"),
    UsualRun("Lumina 2", "1024 × 1024", models.LUMINA_2, 30, 4.0, "Lumina 2"),
    UsualRun("Ernie-Image", "1024 × 1024", joint_models.ERNIE_IMAGE, 20, 4.0, "Ernie-Image"),
    UsualRun("LongCat-Image", "1024 × 1024", joint_models.LONGCAT, 50, 4.5, "LongCat-Image"),
    UsualRun("Chroma", "1024 × 1024", joint_models.CHROMA, 30, 4.0, "Chroma"),
    UsualRun("Flux.1 dev", "1024 × 1024", joint_models.FLUX_DEV, 20, 1.0, "Flux"),
    UsualRun("Flux.2 Klein 4B", "1024 × 1024", joint_models.FLUX2_KLEIN_4B, 20, 5.0, "Flux.2"),
    UsualRun("Flux.2 Klein 9B", "1024 × 1024", joint_models.FLUX2_KLEIN_9B, 20, 5.0, "Flux.2"),
    UsualRun("HiDream Full", "1024 × 1024", joint_models.HIDREAM, 50, 5.0, "HiDream"),
    UsualRun("OmniGen 2", "1024 × 1024", joint_models.OMNIGEN_2, 20, 5.0, "OmniGen 2"),
    UsualRun("HunyuanImage 2.1", "2048 × 2048", joint_models.HUNYUAN_IMAGE_21, 50, 3.5, "HunyuanImage 2.1"),
    UsualRun("HunyuanVideo", "848 × 480, 73 frames", joint_models.HUNYUAN_VIDEO, 20, 1.0, "HunyuanVideo"),
    UsualRun("HunyuanVideo 1.5", "1280 × 720, 121 frames", joint_models.HUNYUAN_VIDEO_15, 20, 6.0, "HunyuanVideo 1.5"),
    UsualRun("Mochi 1", "848 × 480, 37 frames", joint_models.MOCHI, 30, 4.5, "Mochi"),
    UsualRun("CogVideoX 5B", "720 × 480, 49 frames", joint_models.COGVIDEOX_5B, 50, 6.0, "CogVideoX"),
    UsualRun("Hunyuan3D 2", "3072 tokens", joint_models.HUNYUAN3D_2, 30, 5.0, "Hunyuan3D 2"),
    UsualRun("Hunyuan3D 2.1", "4096 tokens", joint_models.HUNYUAN3D_21, 30, 5.0, "Hunyuan3D 2.1"),
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
    is_experimental = preset(build_on_meta(run.model), nodes).is_experimental
    settings = scope_of(build_on_meta(run.model), nodes)
    if settings == "all":
        settings = "experimental" if is_experimental else "published"
    tested = "parity, contract" if run.parity else "contract"
    plain, gated, reasons = saved_at_preset(run, nodes)
    counted = f"{plain.layers / TERA:.3f} → {gated.layers / TERA:.3f}"
    shares = (f"{100 * (1 - gated.layers / plain.layers):.0f} %", f"{100 * (1 - gated.full / plain.full):.0f} %")
    what = f"{run.output}, {run.steps} steps, cfg {run.cfg:g}"
    cells = (run.name, what, settings, gated_attentions(run, nodes), tested, counted, *shares, "; ".join(reasons))
    return f"| {' | '.join(cells)} |"


def gated_attentions(run: UsualRun, nodes: Nodes) -> str:
    """Number of self- and cross-attentions that the pack gates; those within a block count as self-attention."""
    network = build_on_meta(run.model).model.diffusion_model
    kinds = [site.rule.kind for site in attention_sites(network, nodes)]
    inline = pack_core(nodes)("host.networks").inline_attentions(network)
    kinds += [SELF_ATTENTION] * sum(map(len, inline.values()))
    return f"{kinds.count(SELF_ATTENTION)} + {kinds.count(CROSS_ATTENTION)}"


def saved_at_preset(run: UsualRun, nodes: Nodes) -> tuple[Macs, Macs, list[str]]:
    """MACs of the run, plain and with the simple node at its default, and why it does not save more."""
    plain = build_on_meta(run.model)
    gated = nodes["TGATEApply"].execute(model=plain, preset=presets(nodes)[0]).args[0]
    settings = {"steps": run.steps, "cfg": run.cfg}
    macs = count_macs(plain, run.model, nodes, **settings), count_macs(gated, run.model, nodes, **settings)
    return *macs, pack_core(nodes)("host.install").records_of(gated).last.counts.notes
