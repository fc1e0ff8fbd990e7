"""Sound and music, one workflow a model."""

from __future__ import annotations

from .description import INPUT_COLOR, File, Group, Node, Note, Workflow
from .parts import (
    SOUND_CHANGES,
    checkpoint,
    experimental,
    gate,
    presets,
    prompts,
    sampler,
    sampling,
    size,
    sound,
)

STABLE_AUDIO = "https://huggingface.co/Comfy-Org/stable-audio-open-1.0_repackaged/resolve/main"
ACE15 = "https://huggingface.co/Comfy-Org/ace_step_1.5_ComfyUI_files/resolve/main/split_files"
TAGS = "folk, acoustic guitar, warm female voice, harmonica, 96 bpm, calm, hopeful"
LYRICS = """[verse]
The light goes round above the sea
It finds the boats, it waits for me

[chorus]
Keep burning, keep burning
Until the tide is turning"""
SAVE = "The player's menu (three dots) saves the sound."
SONG = "**Song**: write style (tags) and lyrics. Without lyrics, write *[instrumental]*."


def stable_audio() -> Workflow:
    """Stable Audio Open 1.0."""
    file = File("stable-audio-open-1.0.safetensors", "checkpoints", f"{STABLE_AUDIO}/stable-audio-open-1.0.safetensors")
    t5 = File(
        "t5-base.safetensors",
        "text_encoders",
        "https://huggingface.co/ComfyUI-Wiki/t5-base/resolve/main/t5-base.safetensors",
    )
    note = Note(
        "Stable Audio Open 1.0 with T-GATE",
        ("**Prompt**: write yours: what sounds, and in which style.",),
        ("**seconds**: 47.6 at most.",),
        experimental(30, 50, "Stable Audio"),
        presets(fast=20),
        (*SOUND_CHANGES, SAVE),
    )
    return Workflow(
        "stable_audio",
        note,
        (
            Group(
                "Model",
                1,
                (checkpoint(file), Node("clip", "CLIPLoader", {"type": "stable_audio"}, files=(t5,))),
            ),
            Group(
                "Prompt",
                2,
                prompts("clip", "waves on a rocky coast, distant fog horn, seagulls, field recording", "low quality"),
                INPUT_COLOR,
            ),
            gate("model.MODEL", is_experimental=True),
            size("EmptyLatentAudio", "Length", seconds=47.6),
            sampling(sampler(50, 4.98, "dpmpp_3m_sde", "exponential")),
            sound("model.VAE"),
        ),
    )


def ace_step() -> Workflow:
    """ACE-Step 1."""
    file = File(
        "ace_step_v1_3.5b.safetensors",
        "checkpoints",
        "https://huggingface.co/Comfy-Org/ACE-Step_ComfyUI_repackaged/resolve/main/all_in_one/"
        "ace_step_v1_3.5b.safetensors",
    )
    note = Note(
        "ACE-Step 1 with T-GATE",
        (SONG,),
        ("**seconds**: how long the song is.", "**lyrics_strength**: how closely the voice follows the lyrics."),
        experimental(30, 50, "ACE-Step"),
        presets(fast=20),
        (*SOUND_CHANGES, SAVE),
    )
    song = Node(
        "prompt",
        "TextEncodeAceStepAudio",
        {"tags": TAGS, "lyrics": LYRICS, "lyrics_strength": 0.99},
        {"clip": "model.CLIP"},
        title="Song",
        height=330,
    )
    return Workflow(
        "ace_step",
        note,
        (
            Group("Model", 1, (checkpoint(file),)),
            size("EmptyAceStepLatentAudio", "Length", column=1, seconds=120.0),
            Group("Model sampling", 2, (Node("shift", "ModelSamplingSD3", {"shift": 5.0}, {"model": "model.MODEL"}),)),
            Group("Song", 2, (song,), INPUT_COLOR),
            gate("shift", is_experimental=True),
            _nothing_to_avoid(),
            sampling(sampler(50, 5.0, "euler", "simple")),
            sound("model.VAE"),
        ),
    )


def ace_step15() -> Workflow:
    """ACE-Step 1.5, base model."""
    unet = File("acestep_v1.5_base.safetensors", "diffusion_models", _ace15("diffusion_models/acestep_v1.5_base"))
    vae = File("ace_1.5_vae.safetensors", "vae", _ace15("vae/ace_1.5_vae"))
    encoders = tuple(
        File(f"{name}.safetensors", "text_encoders", _ace15(f"text_encoders/{name}"))
        for name in ("qwen_0.6b_ace15", "qwen_1.7b_ace15")
    )
    note = Note(
        "ACE-Step 1.5 with T-GATE",
        (SONG,),
        (
            "**seconds** and **duration**: how long the song is, the same in both nodes.",
            "**bpm**, **timesignature**, **keyscale**, **language**: of the song.",
        ),
        experimental(30, 50, "ACE-Step 1.5"),
        presets(fast=20),
        (
            *SOUND_CHANGES,
            "The turbo model runs in 8 steps at cfg 1: there is no second pass to leave out, so little is saved. "
            + SAVE,
        ),
    )
    song = Node(
        "prompt",
        "TextEncodeAceStepAudio1.5",
        {"tags": TAGS, "lyrics": LYRICS, "bpm": 96, "timesignature": "4", "keyscale": "E minor"},
        {"clip": "clip"},
        title="Song",
        height=620,
    )
    return Workflow(
        "ace_step15",
        note,
        (
            Group(
                "Model",
                1,
                (
                    Node("model", "UNETLoader", files=(unet,)),
                    Node("vae", "VAELoader", files=(vae,)),
                    Node("clip", "DualCLIPLoader", {"type": "ace"}, files=encoders),
                ),
            ),
            size("EmptyAceStep1.5LatentAudio", "Length", column=1, seconds=120.0),
            Group("Model sampling", 2, (Node("shift", "ModelSamplingAuraFlow", {"shift": 3.0}, {"model": "model"}),)),
            Group("Song", 2, (song,), INPUT_COLOR),
            gate("shift", is_experimental=True),
            _nothing_to_avoid(),
            sampling(sampler(50, 5.0, "euler", "simple")),
            sound("vae"),
        ),
    )


def _ace15(place: str) -> str:
    return f"{ACE15}/{place}.safetensors"


def _nothing_to_avoid() -> Group:
    zero = Node("negative", "ConditioningZeroOut", links={"conditioning": "prompt"}, title="No negative prompt")
    return Group("Nothing to avoid", 3, (zero,), INPUT_COLOR)


SOUNDS = (stable_audio, ace_step, ace_step15)
