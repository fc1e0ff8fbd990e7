"""What else one does with T-GATE, a workflow each."""

from __future__ import annotations

from typing import Any

from .note import WRITE_YOURS, Note, effect, presets
from .workflow import GATE, INPUT, SEED, File, Link, Node, Run, Workflow

RUN: Run = (25, 7.0, "dpmpp_2m", "karras")
EVEN_RUN: Run = (20, 7.0, "dpmpp_2m", "normal")
BY_SCHEDULE: dict[str, Any] = {"gate_unit": "percent of schedule", "warm_up": 0}
ADVANCED = "TGATE Apply (Advanced)"
OWN_PICTURE = "**Picture**: choose yours."
SD15 = File("Comfy-Org/stable-diffusion-v1-5-archive:v1-5-pruned-emaonly-fp16", "Any other SD 1.5 model will do.")
SDXL = File("stabilityai/stable-diffusion-xl-base-1.0:sd_xl_base_1.0", "Any other SDXL model will do.")
CANNY = File("comfyanonymous/ControlNet-v1-1_fp16_safetensors:control_v11p_sd15_canny_fp16")


def compare(w: Workflow) -> Note:
    """The same seed without and with TGATE, side by side."""
    model, clip, vae = w.group("Model", 1).checkpoint(SD15)
    seed = w.group("Seed", 1, INPUT).node("PrimitiveInt", title="Seed", value=SEED)
    inputs = w.prompts(clip)
    gated_model = w.gate(model)
    inputs |= {"latent_image": w.picture_size(512, 512), "seed": seed}
    plain = w.group("Without", 4).sampler(RUN, title="Sampler without TGATE", model=model, **inputs)
    gated = w.group("With", 4).sampler(RUN, title="Sampler with TGATE", model=gated_model, **inputs)
    plain_picture = w.picture(plain, vae, "compare_plain", 5, "Picture without TGATE")
    gated_picture = w.picture(gated, vae, "compare_gated", 6, "Picture with TGATE")
    w.group("Compare", 7).node("ImageCompare", image_a=plain_picture, image_b=gated_picture)
    return Note(
        "Without and with T-GATE, side by side",
        effect(5, 25) + " The upper sampler runs the model as it is, the lower one with TGATE Apply.",
        settings=["**Seed**: one for both samplers.", "**steps**, **cfg** and the rest: the same in both samplers."],
        presets=presets(fast=5, gentle=10),
        changes=(
            "The picture will change: that is what this graph is for. Both pictures are saved. **Compare Images** lays "
            "one over the other: move the pointer over it. It needs *Nodes 2.0*, a switch in the editor's main menu."
        ),
        closing=[
            "For the times look at the two progress bars in the console that ComfyUI runs in. Run twice with another "
            "seed: the first run also loads the model."
        ],
    )


def deepcache_sdxl(w: Workflow) -> Note:
    """SDXL with DeepCache and T-GATE."""
    model, clip, vae = w.group("Model", 1).checkpoint(SDXL)
    inputs = w.prompts(clip)
    inputs["latent_image"] = w.picture_size(1024, 1024, column=2)
    deep = w.group("T-GATE", 3, GATE).node("TGATEDeepCache", model=model)
    gated = _advanced(w, deep, gate=13.0, warm_up=0)
    _sample(w, RUN, vae, "deepcache_sdxl", model=gated, **inputs)
    return Note(
        "SDXL with DeepCache and T-GATE",
        "Between full steps only the outer blocks of the model run. From step 13 of 25 on, cross-attention is reused "
        "and the second guidance pass is skipped, too. Together: 44 instead of 149 T of MACs for a picture of 1024².",
        settings=[
            "**cache_interval**: every N-th step runs in full. 2 stays closer, 5 is faster, 1 is off.",
            "**gate**: one more than a multiple of *cache_interval* adds no full step, such as 10 or 13.",
            "**end**: 0.8 leaves the last steps alone and brings back fine detail.",
        ],
        closing=["TGATE DeepCache is for UNets (SD, SDXL) and needs ComfyUI 0.20 or newer."],
        node="TGATE DeepCache",
    )


def img2img(w: Workflow) -> Note:
    """A picture from a picture."""
    model, clip, vae = w.group("Model", 1).checkpoint(SD15)
    start = w.start_picture()
    inputs = w.prompts(clip)
    fitted = w.group("Picture size", 2, INPUT).node(
        "ImageScaleToTotalPixels", title="Size", image=start, upscale_method="lanczos", megapixels=0.3
    )
    gated = _advanced(w.group("T-GATE", 3, GATE), model, gate=0.55, **BY_SCHEDULE)
    inputs["latent_image"] = w.group("Picture as a latent", 3, INPUT).node("VAEEncode", pixels=fitted, vae=vae)
    _sample(w, EVEN_RUN, vae, "img2img", model=gated, denoise=0.6, **inputs)
    return Note(
        "Picture to picture with T-GATE",
        "From step 5 of 20 on, cross-attention is reused and the second guidance pass is skipped. In percent of the "
        "noise schedule, the gate stays at the same noise level whatever the number of steps.",
        [OWN_PICTURE, WRITE_YOURS],
        [
            "**denoise**: how much of the picture is redone. 0.6 starts at 40 % of the noise schedule.",
            "**gate**, in *percent of schedule*: 0.55 is a quarter of the way from there to the end. For another "
            "**denoise** d, use 1 − ¾ × d.",
        ],
        closing=["**TGATE Apply** works here, too: it counts this sampler's own steps."],
        node=ADVANCED,
    )


def hires(w: Workflow) -> Note:
    """Two passes: a small picture, then a larger one from it."""
    model, clip, vae = w.group("Model", 1).checkpoint(SD15)
    inputs = w.prompts(clip)
    latent = w.picture_size(512, 512, column=2)
    inputs["model"] = _advanced(w.group("T-GATE", 3, GATE), model, gate=0.4, **BY_SCHEDULE)
    first = w.group("First pass", 4).sampler(EVEN_RUN, latent_image=latent, **inputs)
    upscaling: dict[str, Any] = {"upscale_method": "bislerp", "scale_by": 1.5}
    larger = w.group("Upscaling", 5).node("LatentUpscaleBy", samples=first, **upscaling)
    first_picture = w.group("First picture", 5).node("VAEDecode", samples=first, vae=vae)
    w.node("PreviewImage", images=first_picture)
    second = w.group("Second pass", 6).sampler(EVEN_RUN, latent_image=larger, denoise=0.55, **inputs)
    w.picture(second, vae, "hires", 7)
    return Note(
        "Two passes with T-GATE",
        "One node serves both passes. In the first, from step 8 of 20 on, cross-attention is reused and the second "
        "guidance pass is skipped. The second starts past the gate: there, all steps but the first run like that.",
        settings=[
            "**scale_by**: how much larger the second pass is.",
            "**denoise** of the second pass: how much is redone; 0.5 to 0.6.",
            "**gate**: in *percent of schedule*, so that one node fits both passes.",
        ],
        closing=["To let the prompt act longer in the second pass, give it a TGATE node of its own with a later gate."],
        node=ADVANCED,
    )


def controlnet(w: Workflow) -> Note:
    """Guided by the edges of a picture."""
    model, clip, vae = w.group("Model", 1).checkpoint(SD15)
    control = w.node("ControlNetLoader", control_net_name=CANNY)
    start = w.start_picture()
    prompts = w.prompts(clip)
    edges = w.group("Edges", 2, INPUT).node("Canny", image=start, low_threshold=0.2, high_threshold=0.5)
    gated = w.gate(model)
    guidance: dict[str, Any] = {"control_net": control, "image": edges, "strength": 0.8}
    guided = w.group("Guidance by edges", 3, INPUT).node("ControlNetApplyAdvanced", **prompts, **guidance)
    inputs: dict[str, Any] = {"model": gated, "positive": guided["positive"], "negative": guided["negative"]}
    _sample(w, RUN, vae, "controlnet", latent_image=w.picture_size(512, 512), **inputs)
    return Note(
        "ControlNet with T-GATE",
        effect(5, 25)
        + " The ControlNet guides every step, before and after the gate; its second pass is skipped, too.",
        [OWN_PICTURE, WRITE_YOURS],
        [
            "**strength**: how closely the edges are followed.",
            "**low_threshold**, **high_threshold**: lower ones find more edges.",
        ],
        presets(fast=5, gentle=10),
    )


def regional(w: Workflow) -> Note:
    """One prompt for the whole picture, one for each half."""
    model, clip, vae = w.group("Model", 1).checkpoint(SD15)
    latent = w.picture_size(768, 512, column=1)
    w.group("Prompts", 2, INPUT)
    text: dict[str, Any] = {"clip": clip, "min_height": 110}
    whole = w.node("CLIPTextEncode", title="Whole picture", text="a coast at dusk, detailed oil painting", **text)
    windows = "a lighthouse on a rock, warm light in the windows"
    left = w.node("CLIPTextEncode", title="Left", text=windows, **text)
    right = w.node("CLIPTextEncode", title="Right", text="a sailing ship on a calm sea", **text)
    negative = w.negative(clip)
    w.group("Areas", 3, INPUT)
    area: dict[str, Any] = {"width": 384, "height": 512, "y": 0, "strength": 1.0}
    left = w.node("ConditioningSetArea", title="Left half", conditioning=left, x=0, **area)
    right = w.node("ConditioningSetArea", title="Right half", conditioning=right, x=384, **area)
    w.group("Both halves", 4, INPUT)
    halves = w.node("ConditioningCombine", conditioning_1=left, conditioning_2=right)
    gated = w.gate(model, column=5)
    w.group("All prompts", 5, INPUT)
    prompt = w.node("ConditioningCombine", conditioning_1=whole, conditioning_2=halves)
    inputs: dict[str, Any] = {"model": gated, "positive": prompt, "negative": negative, "latent_image": latent}
    _sample(w, RUN, vae, "regional", column=6, **inputs)
    return Note(
        "Regional prompts with T-GATE",
        effect(5, 25) + " Each region has captures of its own.",
        ["**Whole picture**, **Left**, **Right**: write yours."],
        [
            "**width**, **height**, **x**, **y** of an area: in pixels of the picture.",
            "**strength**: how much an area counts beside the others.",
        ],
        presets(fast=5, gentle=10),
        closing=[
            "The preset *as published* needs a single prompt in each pass: with regions it runs both passes, and the "
            "log says so."
        ],
    )


def probe(w: Workflow) -> Note:
    """A run that is measured, and one that is gated where the first settled."""
    model, clip, vae = w.group("Model", 1).checkpoint(SD15)
    inputs = w.prompts(clip)
    inputs["latent_image"] = w.picture_size(512, 512, column=2)
    probing = w.group("T-GATE", 3, GATE).node("TGATEProbe", model=model)
    w.group("Measured run", 4)
    measured = w.sampler(RUN, title="Sampler without TGATE", model=probing["model"], **inputs)
    w.group("Measurement", 5)
    plot = w.node("TGATEConvergencePlot", tolerance=10.0, probe=probing["probe"], latent=measured)
    w.node("PreviewImage", title="Plot", min_height=420, images=plot["plot"])
    w.node("PreviewAny", title="Recommendation", source=plot["text"])
    w.node("TGATESaveProbe", probe=plot["probe"])
    w.group("T-GATE", 6, GATE)
    gated = _advanced(w, model, gate=10.0, gate_unit="measured", probe=plot["probe"])
    latent = w.group("Gated run", 7).sampler(RUN, model=gated, **inputs)
    report = w.group("Report", 8).node("TGATEReport", model=gated, latent=latent)
    w.node("PreviewAny", title="Report in words", source=report["report"])
    w.node("PreviewImage", title="Timeline", images=report["timeline"])
    w.picture(report["latent"], vae, "probe", 9)
    return Note(
        "Find your gate: TGATE Probe",
        "The upper sampler runs without TGATE while TGATE Probe measures; its picture is bit-identical. The lower "
        "one reuses each block's cross-attention from where that block settled, and skips the second guidance pass "
        "from where they settled on average. TGATE Report says what that saved.",
        settings=[
            "**tolerance** of the plot: how much attention may still change from one step to the next, in percent. "
            "Smaller means a later gate, closer to the plain picture.",
            "**gate** of TGATE Apply (Advanced): the same tolerance, as **gate_unit** is *measured*.",
            "**TGATE Save Probe**: to use the measurement again, put **TGATE Load Probe** in place of the upper row.",
        ],
        closing=["Where attention settles depends on model, sampler and prompt: measure once for each."],
        node="TGATE Probe",
    )


def _advanced(w: Workflow, model: Link, **settings: Any) -> Node:
    return w.node("TGATEApplyAdvanced", model=model, sp_interval=1, guidance="cached_delta", **settings)


def _sample(w: Workflow, run: Run, vae: Link, name: str, column: int = 4, **inputs: Any) -> None:
    latent = w.group("Sampling", column).sampler(run, **inputs)
    w.picture(latent, vae, name, column + 1)


RECIPES = (compare, deepcache_sdxl, img2img, hires, controlnet, regional, probe)
