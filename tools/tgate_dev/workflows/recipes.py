"""What else one does with T-GATE: a comparison, DeepCache, a picture from a picture, two passes."""

from __future__ import annotations

from .description import INPUT_COLOR, File, Group, Node, Note, Workflow
from .parts import (
    OWN_PICTURE,
    PICTURE_CHANGES,
    SD15,
    SEED,
    WRITE_YOURS,
    advanced_gate,
    checkpoint,
    effect,
    gate,
    gates,
    picture,
    presets,
    prompt_group,
    sampler,
    sampling,
    saved_picture,
    size,
)

SDXL = File(
    "sd_xl_base_1.0.safetensors",
    "checkpoints",
    "https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0/resolve/main/sd_xl_base_1.0.safetensors",
    " Any other SDXL model will do.",
)
ADVANCED = "TGATE Apply (Advanced)"


def compare() -> Workflow:
    """The same seed without and with TGATE, side by side."""
    note = Note(
        "Without and with T-GATE, side by side",
        (WRITE_YOURS,),
        ("**Seed**: one for both samplers.", "**steps**, **cfg** and the rest: the same in both samplers."),
        effect(5, 25) + " The upper sampler has the model as it is, the lower one has it with TGATE Apply.",
        presets(fast=5, gentle=10),
        (
            "The picture will change: that is what this graph is for. Both pictures are saved. **Compare Images** lays "
            "one over the other: move the pointer over it. It needs *Nodes 2.0*, a switch in the editor's main menu.",
            "For the times look at the two progress bars in the console that ComfyUI runs in. Run twice with another "
            "seed: the first run also loads the model.",
        ),
    )
    seed = Node("seed", "PrimitiveInt", {"value": SEED}, title="Seed")
    return Workflow(
        "compare",
        note,
        (
            Group("Model", 1, (checkpoint(SD15),)),
            Group("Seed", 1, (seed,), INPUT_COLOR),
            prompt_group("model.CLIP"),
            gate("model.MODEL"),
            size("EmptyLatentImage", width=512, height=512),
            Group("Without", 4, (_compared("plain", "model.MODEL", "Sampler without TGATE"),)),
            Group("With", 4, (_compared("gated", "gate", "Sampler with TGATE"),)),
            _one_of_two("plain", "Picture without TGATE", column=5),
            _one_of_two("gated", "Picture with TGATE", column=6),
            Group(
                "Compare",
                7,
                (
                    Node(
                        "compare",
                        "ImageCompare",
                        links={"image_a": "plain_decoded", "image_b": "gated_decoded"},
                        height=530,
                    ),
                ),
            ),
        ),
    )


def _compared(name: str, model: str, title: str) -> Node:
    values = {"seed": SEED, "steps": 25, "cfg": 7.0, "sampler_name": "dpmpp_2m", "scheduler": "karras"}
    links = {"model": model, "positive": "prompt", "negative": "negative", "latent_image": "latent", "seed": "seed"}
    return Node(name, "KSampler", values, links, title=title)


def _one_of_two(name: str, title: str, column: int) -> Group:
    decoded = Node(f"{name}_decoded", "VAEDecode", links={"samples": name, "vae": "model.VAE"})
    return Group(title, column, (decoded, saved_picture(f"{name}_picture", decoded.name, f"compare_{name}")))


def deepcache_sdxl() -> Workflow:
    """SDXL with DeepCache and T-GATE."""
    note = Note(
        "SDXL with DeepCache and T-GATE",
        (WRITE_YOURS,),
        (
            "**cache_interval**: every so many steps one runs in full. 2 stays closer, 5 is faster, 1 is off.",
            "**gate**: one more than a multiple of *cache_interval* costs nothing extra, such as 10 or 13.",
            "**end**: 0.8 leaves the last steps alone, which brings back fine detail.",
        ),
        "Between full steps only the outer blocks of the model run. From step 13 of 25 on, cross-attention is frozen "
        "and the second guidance pass is left out as well. Together that is 44 instead of 149 T of MACs for a picture "
        "of 1024².",
        (),
        (*PICTURE_CHANGES, "TGATE DeepCache is for UNets (SD, SDXL) and needs ComfyUI 0.20 or newer."),
        node="TGATE DeepCache",
    )
    return Workflow(
        "deepcache_sdxl",
        note,
        (
            Group("Model", 1, (checkpoint(SDXL),)),
            prompt_group("model.CLIP"),
            size("EmptyLatentImage", column=2, width=1024, height=1024),
            gates(
                Node("deep", "TGATEDeepCache", links={"model": "model.MODEL"}),
                advanced_gate("deep", gate=13.0, sp_interval=1, warm_up=0, guidance="cached_delta"),
            ),
            sampling(sampler(25, 7.0, "dpmpp_2m", "karras")),
            picture("deepcache_sdxl", "model.VAE"),
        ),
    )


def img2img() -> Workflow:
    """A picture from a picture."""
    note = Note(
        "Picture to picture with T-GATE",
        (OWN_PICTURE, WRITE_YOURS),
        (
            "**denoise**: how much of the picture is made anew. 0.6 begins at 40 % of the noise schedule.",
            "**gate**, in *percent of schedule*: 0.55 is a quarter of the way from there to the end. With another "
            "**denoise** d, take 1 − ¾ × d.",
        ),
        "From step 5 of 20 on, cross-attention is frozen and the second guidance pass is left out. Counted in percent "
        "of the whole noise schedule, the gate stays at the same noise whatever the number of steps is.",
        (),
        (*PICTURE_CHANGES, "**TGATE Apply** works here, too: it counts this sampler's own steps."),
        node=ADVANCED,
    )
    start = Node("start", "LoadImage", {"image": "example.png"}, title="Picture", height=314)
    fitted = Node(
        "fitted",
        "ImageScaleToTotalPixels",
        {"upscale_method": "lanczos", "megapixels": 0.3},
        {"image": "start.IMAGE"},
        title="Size",
    )
    latent = Node("latent", "VAEEncode", links={"pixels": "fitted", "vae": "model.VAE"})
    return Workflow(
        "img2img",
        note,
        (
            Group("Model", 1, (checkpoint(SD15),)),
            Group("Picture", 1, (start,), INPUT_COLOR),
            prompt_group("model.CLIP"),
            Group("Picture size", 2, (fitted,), INPUT_COLOR),
            gates(_by_schedule(0.55)),
            Group("Picture as a latent", 3, (latent,), INPUT_COLOR),
            sampling(_partly(sampler(20, 7.0, "dpmpp_2m", "normal"), 0.6)),
            picture("img2img", "model.VAE"),
        ),
    )


def hires() -> Workflow:
    """Two passes: a small picture, then a larger one from it."""
    note = Note(
        "Two passes with T-GATE",
        (WRITE_YOURS,),
        (
            "**scale_by**: how much larger the second pass is.",
            "**denoise** of the second pass: how much is made anew; 0.5 to 0.6.",
            "**gate**: in *percent of schedule*, so that one node does for both passes.",
        ),
        "One node serves both passes. In the first, from step 8 of 20 on, cross-attention is frozen and the second "
        "guidance pass is left out. The second pass begins later in the schedule than the gate: after its first step, "
        "all of it runs so.",
        (),
        (
            *PICTURE_CHANGES,
            "For more of the prompt in the second pass, give it a TGATE node of its own with a later gate.",
        ),
        node=ADVANCED,
    )
    first = sampler(20, 7.0, "dpmpp_2m", "normal")
    larger = Node("larger", "LatentUpscaleBy", {"upscale_method": "bislerp", "scale_by": 1.5}, {"samples": "first"})
    decoded = Node("first_decoded", "VAEDecode", links={"samples": "first", "vae": "model.VAE"})
    shown = Node("first_picture", "PreviewImage", links={"images": "first_decoded"}, height=300)
    second = _partly(sampler(20, 7.0, "dpmpp_2m", "normal", latent_image="larger"), 0.55)
    return Workflow(
        "hires",
        note,
        (
            Group("Model", 1, (checkpoint(SD15),)),
            prompt_group("model.CLIP"),
            size("EmptyLatentImage", column=2, width=512, height=512),
            gates(_by_schedule(0.4)),
            Group("First pass", 4, (Node("first", first.kind, first.values, first.links),)),
            Group("Upscaling", 5, (larger,)),
            Group("First picture", 5, (decoded, shown)),
            Group("Second pass", 6, (second,)),
            picture("hires", "model.VAE", column=7),
        ),
    )


def _by_schedule(share: float) -> Node:
    values = {"gate_unit": "percent of schedule", "sp_interval": 1, "warm_up": 0, "guidance": "cached_delta"}
    return advanced_gate("model.MODEL", gate=share, **values)


def _partly(node: Node, denoise: float) -> Node:
    return Node(node.name, node.kind, {**node.values, "denoise": denoise}, node.links)


RECIPES = (compare, deepcache_sdxl, img2img, hires)
