"""Videos, one workflow a model."""

from __future__ import annotations

from .description import INPUT_COLOR, File, Group, Node, Note, Workflow
from .parts import (
    OLD_T5,
    VIDEO_CHANGES,
    WAN_REPOSITORY,
    WAN_VAE,
    experimental,
    gate,
    presets,
    prompt_group,
    prompts,
    sampler,
    sampling,
    separate,
    size,
    video,
)

FOX = "a red fox trots through fresh snow between fir trees, morning light, the camera follows from the side"
STILL = "overexposed, static, blurred details, subtitles, low quality, deformed, still picture"
TELL_MOTION = "**Prompt**: write yours, with what moves and how."


def wan_i2v() -> Workflow:
    """Wan 2.1, picture to video, 14B."""
    unet = File(
        "wan2.1_i2v_480p_14B_fp16.safetensors",
        "diffusion_models",
        f"{WAN_REPOSITORY}/diffusion_models/wan2.1_i2v_480p_14B_fp16.safetensors",
    )
    clip = File(
        "umt5_xxl_fp8_e4m3fn_scaled.safetensors",
        "text_encoders",
        f"{WAN_REPOSITORY}/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors",
    )
    vision = File("clip_vision_h.safetensors", "clip_vision", f"{WAN_REPOSITORY}/clip_vision/clip_vision_h.safetensors")
    note = Note(
        "Wan 2.1 picture to video with T-GATE",
        ("**Start picture**: choose the one that the video starts with. Wide ones fit best.", TELL_MOTION),
        ("**length**: frames, four times a number plus one. The video has 16 a second.",),
        experimental(12, 20, "Wan"),
        presets(fast=8),
        (
            "Keep it last before the sampler: LoRAs, then ModelSamplingSD3, then TGATE Apply. What it keeps of a long "
            "video is large: on *auto* it goes to the computer's own memory where the card's runs short.",
            *VIDEO_CHANGES,
        ),
    )
    seen = Node("seen", "CLIPVisionEncode", {"crop": "none"}, {"clip_vision": "vision", "image": "start.IMAGE"})
    links = {"positive": "prompt", "negative": "negative", "vae": "vae", "start_image": "start.IMAGE"}
    frames = Node(
        "frames",
        "WanImageToVideo",
        {"width": 832, "height": 480, "length": 33},
        {**links, "clip_vision_output": "seen"},
        title="Size and length",
    )
    return Workflow(
        "wan_i2v",
        note,
        (
            Group(
                "Model",
                1,
                (*separate(unet, WAN_VAE, clip, "wan"), Node("vision", "CLIPVisionLoader", files=(vision,))),
            ),
            Group("Picture", 1, (_start_picture(),), INPUT_COLOR),
            Group("Model sampling", 2, (_shift(8.0),)),
            prompt_group("clip", FOX, STILL),
            Group("The picture as the model sees it", 2, (seen,), INPUT_COLOR),
            gate("shift", is_experimental=True),
            Group("Video size", 3, (frames,), INPUT_COLOR),
            sampling(sampler(20, 6.0, "uni_pc", "simple", **FRAMES)),
            video("wan_i2v", "vae", 16.0),
        ),
    )


def cosmos1() -> Workflow:
    """Cosmos 1, text to video, 7B."""
    unet = File(
        "Cosmos-1_0-Diffusion-7B-Text2World.safetensors",
        "diffusion_models",
        "https://huggingface.co/mcmonkey/cosmos-1.0/resolve/main/Cosmos-1_0-Diffusion-7B-Text2World.safetensors",
    )
    vae = File(
        "cosmos_cv8x8x8_1.0.safetensors",
        "vae",
        "https://huggingface.co/comfyanonymous/cosmos_1.0_text_encoder_and_VAE_ComfyUI/resolve/main/vae/"
        "cosmos_cv8x8x8_1.0.safetensors",
    )
    note = Note(
        "Cosmos 1 text to video with T-GATE",
        ("**Prompt**: write yours, long and with every detail. Short ones give poor videos.",),
        (
            "**length**: 121 frames; the model knows no other. **width**, **height**: 704 or more.",
            "**cfg**: 6.5.",
        ),
        experimental(12, 20, "Cosmos"),
        presets(fast=8),
        VIDEO_CHANGES,
    )
    return Workflow(
        "cosmos1",
        note,
        (
            Group("Model", 1, separate(unet, vae, OLD_T5, "cosmos")),
            prompt_group("clip", FOX, STILL),
            gate("model", is_experimental=True),
            size("EmptyCosmosLatentVideo", "Video size", width=1280, height=704, length=121),
            sampling(sampler(20, 6.5, "res_multistep", "karras")),
            video("cosmos1", "vae", 24.0),
        ),
    )


def kandinsky5() -> Workflow:
    """Kandinsky 5 Lite, text to video."""
    unet = File(
        "kandinsky5lite_t2v_sft_5s.safetensors",
        "diffusion_models",
        "https://huggingface.co/kandinskylab/Kandinsky-5.0-T2V-Lite-sft-5s/resolve/main/model/"
        "kandinsky5lite_t2v_sft_5s.safetensors",
    )
    vae = File(
        "hunyuan_video_vae_bf16.safetensors",
        "vae",
        "https://huggingface.co/Comfy-Org/HunyuanVideo_repackaged/resolve/main/split_files/vae/"
        "hunyuan_video_vae_bf16.safetensors",
    )
    qwen = File(
        "qwen_2.5_vl_7b_fp8_scaled.safetensors",
        "text_encoders",
        "https://huggingface.co/Comfy-Org/HunyuanVideo_1.5_repackaged/resolve/main/split_files/text_encoders/"
        "qwen_2.5_vl_7b_fp8_scaled.safetensors",
    )
    clip_l = File(
        "clip_l.safetensors",
        "text_encoders",
        "https://huggingface.co/comfyanonymous/flux_text_encoders/resolve/main/clip_l.safetensors",
    )
    note = Note(
        "Kandinsky 5 Lite text to video with T-GATE",
        (TELL_MOTION,),
        ("**length**: 121 frames are five seconds.", "**width**, **height**: 768 and 512, or the other way round."),
        experimental(30, 50, "Kandinsky 5"),
        presets(fast=20),
        (
            *VIDEO_CHANGES,
            "The distilled and no-CFG models run at cfg 1: there is no second pass to leave out, so little is saved.",
        ),
    )
    frames = Node(
        "frames",
        "Kandinsky5ImageToVideo",
        {"width": 768, "height": 512, "length": 121},
        {"positive": "prompt", "negative": "negative", "vae": "vae"},
        title="Size and length",
    )
    return Workflow(
        "kandinsky5",
        note,
        (
            Group(
                "Model",
                1,
                (
                    Node("model", "UNETLoader", files=(unet,)),
                    Node("vae", "VAELoader", files=(vae,)),
                    Node("clip", "DualCLIPLoader", {"type": "kandinsky5"}, files=(qwen, clip_l)),
                ),
            ),
            Group("Model sampling", 2, (_shift(5.0),)),
            Group("Prompt", 2, prompts("clip", FOX, STILL), INPUT_COLOR),
            gate("shift", is_experimental=True),
            Group("Video size", 3, (frames,), INPUT_COLOR),
            sampling(sampler(50, 5.0, "euler_ancestral", "beta", **FRAMES)),
            video("kandinsky5", "vae", 24.0),
        ),
    )


# What the sampler takes from the node that knows size and start of the video.
FRAMES = {"positive": "frames.positive", "negative": "frames.negative", "latent_image": "frames.latent"}


def _shift(shift: float) -> Node:
    return Node("shift", "ModelSamplingSD3", {"shift": shift}, {"model": "model"})


def _start_picture() -> Node:
    return Node("start", "LoadImage", {"image": "example.png"}, title="Start picture", height=314)


VIDEOS = (wan_i2v, cosmos1, kandinsky5)
