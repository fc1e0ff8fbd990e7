"""T-GATE with more to go by than a prompt: the edges of a picture, a prompt for each region."""

from __future__ import annotations

from .description import INPUT_COLOR, File, Group, Node, Note, Workflow
from .parts import (
    BLURRY,
    NEGATIVE_HEIGHT,
    OWN_PICTURE,
    PICTURE_CHANGES,
    SD15,
    TEXT_HEIGHT,
    WRITE_YOURS,
    checkpoint,
    effect,
    gate,
    picture,
    presets,
    prompt_group,
    sampler,
    sampling,
    size,
)

CANNY = File(
    "control_v11p_sd15_canny_fp16.safetensors",
    "controlnet",
    "https://huggingface.co/comfyanonymous/ControlNet-v1-1_fp16_safetensors/resolve/main/"
    "control_v11p_sd15_canny_fp16.safetensors",
)


def controlnet() -> Workflow:
    """Guided by the edges of a picture."""
    note = Note(
        "ControlNet with T-GATE",
        (OWN_PICTURE, WRITE_YOURS),
        (
            "**strength**: how closely the edges are followed.",
            "**low_threshold**, **high_threshold**: lower ones find more edges.",
        ),
        effect(5, 25) + " The ControlNet guides every step, before and after the gate, and its second pass is left "
        "out, too.",
        presets(fast=5, gentle=10),
        PICTURE_CHANGES,
    )
    start = Node("start", "LoadImage", {"image": "example.png"}, title="Picture", height=314)
    edges = Node("edges", "Canny", {"low_threshold": 0.2, "high_threshold": 0.5}, {"image": "start.IMAGE"})
    guided = Node(
        "guided",
        "ControlNetApplyAdvanced",
        {"strength": 0.8},
        {"positive": "prompt", "negative": "negative", "control_net": "control", "image": "edges"},
    )
    return Workflow(
        "controlnet",
        note,
        (
            Group("Model", 1, (checkpoint(SD15), Node("control", "ControlNetLoader", files=(CANNY,)))),
            Group("Picture", 1, (start,), INPUT_COLOR),
            prompt_group("model.CLIP"),
            Group("Edges", 2, (edges,), INPUT_COLOR),
            gate("model.MODEL"),
            Group("Guidance by edges", 3, (guided,), INPUT_COLOR),
            size("EmptyLatentImage", width=512, height=512),
            sampling(sampler(25, 7.0, "dpmpp_2m", "karras", positive="guided.positive", negative="guided.negative")),
            picture("controlnet", "model.VAE"),
        ),
    )


def regional() -> Workflow:
    """One prompt for the whole picture, one for each half."""
    note = Note(
        "Regional prompts with T-GATE",
        ("**Whole picture**, **Left**, **Right**: write yours.",),
        (
            "**width**, **height**, **x**, **y** of an area: in pixels of the picture.",
            "**strength**: how much an area counts beside the others.",
        ),
        effect(5, 25) + " What each region's prompt last said is kept apart for each region.",
        presets(fast=5, gentle=10),
        (
            *PICTURE_CHANGES,
            "The preset *as published* needs one prompt in each pass. With regions it keeps both passes, and the log "
            "says so.",
        ),
    )
    texts = (
        _text("whole", "Whole picture", "a coast at dusk, detailed oil painting"),
        _text("left", "Left", "a lighthouse on a rock, warm light in the windows"),
        _text("right", "Right", "a sailing ship on a calm sea"),
        Node(
            "negative",
            "CLIPTextEncode",
            {"text": BLURRY},
            {"clip": "model.CLIP"},
            title="Negative prompt",
            height=NEGATIVE_HEIGHT,
        ),
    )
    halves = Node(
        "halves", "ConditioningCombine", links={"conditioning_1": "left_area", "conditioning_2": "right_area"}
    )
    all_prompts = Node("prompt", "ConditioningCombine", links={"conditioning_1": "whole", "conditioning_2": "halves"})
    return Workflow(
        "regional",
        note,
        (
            Group("Model", 1, (checkpoint(SD15),)),
            size("EmptyLatentImage", column=1, width=768, height=512),
            Group("Prompts", 2, texts, INPUT_COLOR),
            Group("Areas", 3, (_area("left", 0), _area("right", 384)), INPUT_COLOR),
            Group("Both halves", 4, (halves,), INPUT_COLOR),
            gate("model.MODEL", column=5),
            Group("All prompts", 5, (all_prompts,), INPUT_COLOR),
            sampling(sampler(25, 7.0, "dpmpp_2m", "karras"), column=6),
            picture("regional", "model.VAE", column=7),
        ),
    )


def _text(name: str, title: str, text: str) -> Node:
    return Node(name, "CLIPTextEncode", {"text": text}, {"clip": "model.CLIP"}, title=title, height=TEXT_HEIGHT - 40)


def _area(name: str, x: int) -> Node:
    values = {"width": 384, "height": 512, "x": x, "y": 0, "strength": 1.0}
    title = f"{name.capitalize()} half"
    return Node(f"{name}_area", "ConditioningSetArea", values, {"conditioning": name}, title=title)


GUIDED = (controlnet, regional)
