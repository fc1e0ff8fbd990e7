"""What else one does with T-GATE, a workflow each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .note import RUN, WRITE_YOURS, Note, Run
from .workflow import GATE, INPUT, SEED, File, Workflow

EVEN_RUN: Run = (20, 7.0, "dpmpp_2m", "normal")
BY_SCHEDULE: dict[str, Any] = {"gate_unit": "percent of schedule", "warm_up": 0}
ADVANCED = "TGATE Apply (Advanced)"
OWN_PICTURE = "**Picture**: choose yours."
SD15 = File("Comfy-Org/stable-diffusion-v1-5-archive:v1-5-pruned-emaonly-fp16", "Any other SD 1.5 model will do.")
SDXL = File("stabilityai/stable-diffusion-xl-base-1.0:sd_xl_base_1.0", "Any other SDXL model will do.")
CANNY = File("comfyanonymous/ControlNet-v1-1_fp16_safetensors:control_v11p_sd15_canny_fp16")


@dataclass(frozen=True, kw_only=True)
class Recipe(Note):
    """A use of T-GATE; `build` adds its nodes."""

    build: Callable[[Workflow], None]


def compare(w: Workflow) -> None:
    """The same seed without and with TGATE, side by side."""
    w.checkpoint(SD15)
    model = w.last["MODEL"]
    seed = w.group("Seed", 1, INPUT).node("PrimitiveInt", "Seed", value=SEED)
    w.prompts()
    w.gate()
    latent = w.picture_size(512, 512)
    plain = w.group("Without", 4).sampler(RUN, "Sampler without TGATE", model=model, seed=seed)
    gated = w.group("With", 4).sampler(RUN, "Sampler with TGATE", latent_image=latent, seed=seed)
    plain_picture = w.picture("compare_plain", 5, "Picture without TGATE", samples=plain)
    gated_picture = w.picture("compare_gated", 6, "Picture with TGATE", samples=gated)
    w.group("Compare", 7).node("ImageCompare", image_a=plain_picture, image_b=gated_picture)


def deepcache_sdxl(w: Workflow) -> None:
    """SDXL with DeepCache and T-GATE."""
    w.checkpoint(SDXL)
    w.prompts()
    w.picture_size(1024, 1024, column=2)
    w.group("T-GATE", 3, GATE).node("TGATEDeepCache")
    _advanced(w, gate=13.0, warm_up=0)
    _sample(w, "deepcache_sdxl")


def img2img(w: Workflow) -> None:
    """A picture from a picture."""
    w.checkpoint(SD15)
    w.start_picture()
    w.prompts()
    w.group("Picture size", 2, INPUT)
    w.node("ImageScaleToTotalPixels", "Size", upscale_method="lanczos", megapixels=0.3)
    _advanced(w.group("T-GATE", 3, GATE), gate=0.55, **BY_SCHEDULE)
    w.group("Picture as a latent", 3, INPUT).node("VAEEncode")
    _sample(w, "img2img", EVEN_RUN, denoise=0.6)


def hires(w: Workflow) -> None:
    """Two passes: a small picture, then a larger one from it."""
    w.checkpoint(SD15)
    w.prompts()
    w.picture_size(512, 512, column=2)
    _advanced(w.group("T-GATE", 3, GATE), gate=0.4, **BY_SCHEDULE)
    first = w.group("First pass", 4).sampler(EVEN_RUN)
    w.group("Upscaling", 5).node("LatentUpscaleBy", upscale_method="bislerp", scale_by=1.5)
    w.group("First picture", 5).node("VAEDecode", samples=first)
    w.node("PreviewImage")
    w.group("Second pass", 6).sampler(EVEN_RUN, denoise=0.55)
    w.picture("hires", 7)


def controlnet(w: Workflow) -> None:
    """Guided by the edges of a picture."""
    w.checkpoint(SD15)
    w.node("ControlNetLoader", control_net_name=CANNY)
    w.start_picture()
    w.prompts()
    w.group("Edges", 2, INPUT).node("Canny", low_threshold=0.2, high_threshold=0.5)
    w.gate()
    w.last.update(w.group("Guidance by edges", 3, INPUT).node("ControlNetApplyAdvanced", strength=0.8))
    w.picture_size(512, 512)
    _sample(w, "controlnet")


def regional(w: Workflow) -> None:
    """One prompt for the whole picture, one for each half."""
    w.checkpoint(SD15)
    w.picture_size(768, 512, column=1)
    w.group("Prompts", 2, INPUT)
    whole = w.node("CLIPTextEncode", "Whole picture", 110, text="a coast at dusk, detailed oil painting")
    left = w.node("CLIPTextEncode", "Left", 110, text="a lighthouse on a rock, warm light in the windows")
    right = w.node("CLIPTextEncode", "Right", 110, text="a sailing ship on a calm sea")
    w.negative()
    w.group("Areas", 3, INPUT)
    area = {"width": 384, "height": 512, "y": 0, "strength": 1.0}
    left = w.node("ConditioningSetArea", "Left half", conditioning=left, x=0, **area)
    right = w.node("ConditioningSetArea", "Right half", conditioning=right, x=384, **area)
    w.group("Both halves", 4, INPUT)
    halves = w.node("ConditioningCombine", conditioning_1=left, conditioning_2=right)
    w.gate(column=5)
    w.group("All prompts", 5, INPUT)
    w.last["positive"] = w.node("ConditioningCombine", conditioning_1=whole, conditioning_2=halves)
    _sample(w, "regional", column=6)


def probe(w: Workflow) -> None:
    """A run that is measured, and one that is gated where the first settled."""
    w.checkpoint(SD15)
    model = w.last["MODEL"]
    w.prompts()
    latent = w.picture_size(512, 512, column=2)
    w.group("T-GATE", 3, GATE).node("TGATEProbe")
    measured = w.group("Measured run", 4).sampler(RUN, "Sampler without TGATE")
    w.group("Measurement", 5)
    plot = w.node("TGATEConvergencePlot", tolerance=10.0, latent=measured)
    w.node("PreviewImage", "Plot", 420, images=plot["plot"])
    w.node("PreviewAny", "Recommendation", source=plot["text"])
    w.node("TGATESaveProbe")
    w.group("T-GATE", 6, GATE)
    _advanced(w, gate=10.0, gate_unit="measured", model=model, probe=plot["probe"])
    gated = w.group("Gated run", 7).sampler(latent_image=latent)
    report = w.group("Report", 8).node("TGATEReport", latent=gated)
    w.node("PreviewAny", "Report in words", source=report["report"])
    w.node("PreviewImage", "Timeline", images=report["timeline"])
    w.picture("probe", 9)


def _advanced(w: Workflow, **settings: Any) -> None:
    w.node("TGATEApplyAdvanced", sp_interval=1, guidance="cached_delta", **settings)


def _sample(w: Workflow, name: str, run: Run = RUN, column: int = 4, **inputs: Any) -> None:
    w.group("Sampling", column).sampler(run, **inputs)
    w.picture(name, column + 1)


# fmt: off
RECIPES = (
    Recipe(
        name="compare", build=compare, heading="Without and with T-GATE, side by side", gates=(5, 5, 10),
        effect="The upper sampler runs the model as it is, the lower one with TGATE Apply.",
        settings=["**Seed**: one for both samplers.", "**steps**, **cfg** and the rest: the same in both samplers."],
        changes="The picture will change: that is what this graph is for. Both pictures are saved. **Compare Images** "
                "lays one over the other: move the pointer over it. It needs *Nodes 2.0*, a switch in the editor's "
                "main menu.",
        closing=["For the times look at the two progress bars in the console that ComfyUI runs in. Run twice with "
                 "another seed: the first run also loads the model."],
    ),
    Recipe(
        name="deepcache_sdxl", build=deepcache_sdxl, heading="SDXL with DeepCache and T-GATE", node="TGATE DeepCache",
        effect="Between full steps only the outer blocks of the model run. From step 13 of 25 on, cross-attention is "
               "reused and the second guidance pass is skipped, too. Together: 44 instead of 149 T of MACs for a "
               "picture of 1024².",
        settings=["**cache_interval**: every N-th step runs in full. 2 stays closer, 5 is faster, 1 is off.",
                  "**gate**: one more than a multiple of *cache_interval* adds no full step, such as 10 or 13.",
                  "**end**: 0.8 leaves the last steps alone and brings back fine detail."],
        closing=["TGATE DeepCache is for UNets (SD, SDXL) and needs ComfyUI 0.20 or newer."],
    ),
    Recipe(
        name="img2img", build=img2img, heading="Picture to picture with T-GATE", node=ADVANCED,
        effect="From step 5 of 20 on, cross-attention is reused and the second guidance pass is skipped. In percent of "
               "the noise schedule, the gate stays at the same noise level whatever the number of steps.",
        steps=[OWN_PICTURE, WRITE_YOURS],
        settings=["**denoise**: how much of the picture is redone. 0.6 starts at 40 % of the noise schedule.",
                  "**gate**, in *percent of schedule*: 0.55 is a quarter of the way from there to the end. For another "
                  "**denoise** d, use 1 − ¾ × d."],
        closing=["**TGATE Apply** works here, too: it counts this sampler's own steps."],
    ),
    Recipe(
        name="hires", build=hires, heading="Two passes with T-GATE", node=ADVANCED,
        effect="One node serves both passes. In the first, from step 8 of 20 on, cross-attention is reused and the "
               "second guidance pass is skipped. The second starts past the gate: there, all steps but the first run "
               "like that.",
        settings=["**scale_by**: how much larger the second pass is.",
                  "**denoise** of the second pass: how much is redone; 0.5 to 0.6.",
                  "**gate**: in *percent of schedule*, so that one node fits both passes."],
        closing=["To let the prompt act longer in the second pass, give it a TGATE node of its own with a later gate."],
    ),
    Recipe(
        name="controlnet", build=controlnet, heading="ControlNet with T-GATE", gates=(5, 5, 10),
        effect="The ControlNet guides every step, before and after the gate; its second pass is skipped, too.",
        steps=[OWN_PICTURE, WRITE_YOURS],
        settings=["**strength**: how closely the edges are followed.",
                  "**low_threshold**, **high_threshold**: lower ones find more edges."],
    ),
    Recipe(
        name="regional", build=regional, heading="Regional prompts with T-GATE", gates=(5, 5, 10),
        effect="Each region has captures of its own.", steps=["**Whole picture**, **Left**, **Right**: write yours."],
        settings=["**width**, **height**, **x**, **y** of an area: in pixels of the picture.",
                  "**strength**: how much an area counts beside the others."],
        closing=["The preset *as published* needs a single prompt in each pass: with regions it runs both passes, and "
                 "the log says so."],
    ),
    Recipe(
        name="probe", build=probe, heading="Find your gate: TGATE Probe", node="TGATE Probe",
        effect="The upper sampler runs without TGATE while TGATE Probe measures; its picture is bit-identical. The "
               "lower one reuses each block's cross-attention from where that block settled, and skips the second "
               "guidance pass from where they settled on average. TGATE Report says what that saved.",
        settings=["**tolerance** of the plot: how much attention may still change from one step to the next, in "
                  "percent. Smaller means a later gate, closer to the plain picture.",
                  "**gate** of TGATE Apply (Advanced): the same tolerance, as **gate_unit** is *measured*.",
                  "**TGATE Save Probe**: to use the measurement again, put **TGATE Load Probe** in place of the upper "
                  "row."],
        closing=["Where attention settles depends on model, sampler and prompt: measure once for each."],
    ),
)
# fmt: on
