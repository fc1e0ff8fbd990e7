"""PixArt-Alpha, and its distilled version."""

from __future__ import annotations

from .description import INPUT_COLOR, File, Group, Node, Note, Workflow
from .parts import (
    BLURRY,
    LIGHTHOUSE,
    NEGATIVE_HEIGHT,
    PICTURE_CHANGES,
    T5,
    TEXT_HEIGHT,
    effect,
    gate,
    picture,
    presets,
    sampler,
    sampling,
    separate,
    size,
)

VAE = File(
    "vae-ft-mse-840000-ema-pruned.safetensors",
    "vae",
    "https://huggingface.co/stabilityai/sd-vae-ft-mse-original/resolve/main/vae-ft-mse-840000-ema-pruned.safetensors",
)
SENTENCES = "**Prompt**: write yours; whole sentences work well."
SIDES = "**width**, **height** in the prompt nodes: the same as the picture's."


def pixart_alpha() -> Workflow:
    """PixArt-Alpha."""
    note = Note(
        "PixArt-Alpha with T-GATE",
        (SENTENCES,),
        (SIDES,),
        effect(12, 20, reuses_self_attention=True),
        presets(fast=8),
        PICTURE_CHANGES,
    )
    negative = _text("negative", "Negative prompt", BLURRY, NEGATIVE_HEIGHT)
    return Workflow(
        "pixart_alpha",
        note,
        (
            Group("Model", 1, separate(_transformer("PixArt-XL-2-1024-MS"), VAE, T5, "pixart")),
            Group("Prompt", 2, (_text("prompt", "Prompt", LIGHTHOUSE, TEXT_HEIGHT), negative), INPUT_COLOR),
            gate("model"),
            size("EmptyLatentImage", width=1024, height=1024),
            sampling(sampler(20, 4.5, "dpmpp_2m", "normal")),
            picture("pixart_alpha", "vae"),
        ),
    )


def lcm_pixart() -> Workflow:
    """PixArt-Alpha, distilled for four steps."""
    note = Note(
        "LCM PixArt-Alpha with T-GATE, four steps",
        (SENTENCES,),
        (SIDES, "**sampler_name**, **scheduler**, **cfg**: leave them on *lcm*, *sgm_uniform* and 1."),
        "With four steps it takes its few-step settings: from step 1 of 4 on, cross-attention is frozen. At cfg 1 "
        "there is no second guidance pass to leave out, so the saving is small: 11 % of the model's work.",
        (),
        ("Keep it last before the sampler: model sampling, then TGATE Apply.", *PICTURE_CHANGES),
    )
    zero = Node("negative", "ConditioningZeroOut", links={"conditioning": "prompt"}, title="No negative prompt")
    return Workflow(
        "lcm_pixart",
        note,
        (
            Group("Model", 1, separate(_transformer("PixArt-LCM-XL-2-1024-MS"), VAE, T5, "pixart")),
            Group(
                "Model sampling",
                2,
                (Node("lcm", "ModelSamplingDiscrete", {"sampling": "lcm"}, {"model": "model"}),),
            ),
            Group("Prompt", 2, (_text("prompt", "Prompt", LIGHTHOUSE, TEXT_HEIGHT),), INPUT_COLOR),
            gate("lcm"),
            size("EmptyLatentImage", width=1024, height=1024),
            Group("Nothing to avoid", 3, (zero,), INPUT_COLOR),
            sampling(sampler(4, 1.0, "lcm", "sgm_uniform")),
            picture("lcm_pixart", "vae"),
        ),
    )


def _transformer(repository: str) -> File:
    return File(
        f"{repository}.safetensors",
        "diffusion_models",
        f"https://huggingface.co/PixArt-alpha/{repository}",
        " Its file there is diffusion_pytorch_model.safetensors in the folder transformer: save it under this name.",
    )


def _text(name: str, title: str, text: str, height: int) -> Node:
    sizes = 2 * 24
    return Node(name, "CLIPTextEncodePixArtAlpha", {"text": text}, {"clip": "clip"}, title=title, height=height + sizes)
