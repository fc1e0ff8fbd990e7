"""What many workflows have in common: loaders, prompts, samplers, sentences."""

from __future__ import annotations

from typing import Any

from .description import GATE_COLOR, INPUT_COLOR, File, Group, Node

SEED = 156680208700286
TEXT_HEIGHT = 150
NEGATIVE_HEIGHT = 110
# With room for what the node has to say about an experimental model.
EXPERIMENTAL_GATE_HEIGHT = 270
PICTURE_HEIGHT = 430
LIGHTHOUSE = "a lighthouse on a rocky coast at dusk, warm light in the windows, detailed oil painting"
BLURRY = "blurry, low quality, watermark, text"
WRITE_YOURS = "**Prompt**: write yours."
OWN_PICTURE = "**Picture**: choose yours."
PICTURE_CHANGES = (
    "The picture will change. To compare, select the node, press **Ctrl+B** (bypass) and run again with the same seed.",
)
VIDEO_CHANGES = (
    "The picture will change in every frame, and how it moves can change too. To compare, select the node, press "
    "**Ctrl+B** (bypass) and run again with the same seed.",
)
SOUND_CHANGES = (
    "The sound will change. To compare, select the node, press **Ctrl+B** (bypass) and run again with the same seed.",
)

SD15 = File(
    "v1-5-pruned-emaonly-fp16.safetensors",
    "checkpoints",
    "https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/v1-5-pruned-emaonly-fp16.safetensors",
    " Any other SD 1.5 model will do.",
)
T5 = File(
    "t5xxl_fp16.safetensors",
    "text_encoders",
    "https://huggingface.co/comfyanonymous/flux_text_encoders/resolve/main/t5xxl_fp16.safetensors",
    " The fp8 file there needs half the memory.",
)
OLD_T5 = File(
    "oldt5_xxl_fp8_e4m3fn_scaled.safetensors",
    "text_encoders",
    "https://huggingface.co/comfyanonymous/cosmos_1.0_text_encoder_and_VAE_ComfyUI/resolve/main/text_encoders/"
    "oldt5_xxl_fp8_e4m3fn_scaled.safetensors",
)
WAN_REPOSITORY = "https://huggingface.co/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files"
WAN_VAE = File("wan_2.1_vae.safetensors", "vae", f"{WAN_REPOSITORY}/vae/wan_2.1_vae.safetensors")


def checkpoint(file: File) -> Node:
    """A loader of all three: `model.MODEL`, `model.CLIP`, `model.VAE`."""
    return Node("model", "CheckpointLoaderSimple", files=(file,))


def separate(unet: File, vae: File, clip: File, clip_type: str) -> tuple[Node, Node, Node]:
    """A loader for each: `model`, `vae`, `clip`."""
    return (
        Node("model", "UNETLoader", files=(unet,)),
        Node("vae", "VAELoader", files=(vae,)),
        Node("clip", "CLIPLoader", {"type": clip_type}, files=(clip,)),
    )


def prompts(clip: str, text: str = LIGHTHOUSE, negative: str = BLURRY) -> tuple[Node, Node]:
    """Nodes `prompt` and `negative`; `clip` is where the text encoder comes from."""
    return (
        Node("prompt", "CLIPTextEncode", {"text": text}, {"clip": clip}, title="Prompt", height=TEXT_HEIGHT),
        Node(
            "negative",
            "CLIPTextEncode",
            {"text": negative},
            {"clip": clip},
            title="Negative prompt",
            height=NEGATIVE_HEIGHT,
        ),
    )


def prompt_group(clip: str, text: str = LIGHTHOUSE, negative: str = BLURRY, column: int = 2) -> Group:
    """Both prompts in their frame."""
    return Group("Prompt", column, prompts(clip, text, negative), INPUT_COLOR)


def gate(model: str, column: int = 3, is_experimental: bool = False) -> Group:
    """Node `gate`: TGATE Apply in its frame."""
    height = EXPERIMENTAL_GATE_HEIGHT if is_experimental else 0
    return gates(Node("gate", "TGATEApply", links={"model": model}, height=height), column=column)


def gates(*nodes: Node, column: int = 3) -> Group:
    """Nodes of this pack in their frame."""
    return Group("T-GATE", column, nodes, GATE_COLOR)


def advanced_gate(model: str, **values: Any) -> Node:
    """Node `gate`: TGATE Apply (Advanced)."""
    return Node("gate", "TGATEApplyAdvanced", values, {"model": model})


def size(kind: str, title: str = "Picture size", column: int = 3, **values: Any) -> Group:
    """Node `latent`: an empty latent in its frame."""
    return Group(title, column, (Node("latent", kind, values, title="Size"),), INPUT_COLOR)


def sampler(steps: int, cfg: float, name: str, scheduler: str, **changed: str) -> Node:
    """Node `sampler`, from `gate`, `prompt`, `negative` and `latent` where nothing else is said of an input."""
    links = {"model": "gate", "positive": "prompt", "negative": "negative", "latent_image": "latent", **changed}
    values = {"seed": SEED, "steps": steps, "cfg": cfg, "sampler_name": name, "scheduler": scheduler}
    return Node("sampler", "KSampler", values, links)


def sampling(node: Node, column: int = 4) -> Group:
    """A sampler in its frame."""
    return Group("Sampling", column, (node,))


def picture(workflow: str, vae: str, column: int = 5) -> Group:
    """From the sampler's latent to a saved picture."""
    return Group("Picture", column, (_decode("VAEDecode", vae), saved_picture("picture", "decoded", workflow)))


def saved_picture(name: str, images: str, prefix: str, title: str = "") -> Node:
    """A node that shows and saves pictures."""
    values = {"filename_prefix": f"TGATE/{prefix}"}
    return Node(name, "SaveImage", values, {"images": images}, title=title, height=PICTURE_HEIGHT)


def video(workflow: str, vae: str, fps: float, column: int = 5) -> Group:
    """From the sampler's latent to a saved video."""
    values = {"filename_prefix": f"TGATE/{workflow}", "fps": fps, "lossless": False, "quality": 90}
    save = Node(
        "video", "SaveAnimatedWEBP", values, {"images": "decoded"}, title="Save video", height=PICTURE_HEIGHT + 30
    )
    return Group("Video", column, (_decode("VAEDecode", vae), save))


def sound(vae: str, column: int = 5) -> Group:
    """From the sampler's latent to a player."""
    player = Node("player", "PreviewAudio", links={"audio": "decoded"}, title="Listen", height=100)
    return Group("Sound", column, (_decode("VAEDecodeAudio", vae), player))


def _decode(kind: str, vae: str) -> Node:
    return Node("decoded", kind, links={"samples": "sampler", "vae": vae})


def effect(gate_step: int, steps: int, reuses_self_attention: bool = False) -> str:
    """What TGATE Apply does at `balanced`, with the settings published for a model."""
    text = (
        f"From step {gate_step} of {steps} on, cross-attention is frozen and the second guidance pass is left out: "
        "the rest of the run costs about half."
    )
    return text + (" Before that, self-attention is computed on some steps only." if reuses_self_attention else "")


def experimental(gate_step: int, steps: int, model: str) -> str:
    """The same for a model without published settings."""
    return (
        f"Experimental. From step {gate_step} of {steps} on, cross-attention is frozen and the second guidance pass is "
        f"left out. Nobody has published settings for {model}: this is the paper's rule for other models."
    )


def presets(fast: int, gentle: int = 0) -> tuple[str, ...]:
    """The choices, with the steps at which they gate; no `gentle` where it gates as `balanced` does."""
    gently = f"gates at step {gentle}, leaves self-attention alone." if gentle else "leaves self-attention alone."
    return ("**balanced**: start here.", f"**gentle**: {gently}", f"**fast**: gates at step {fast}.")
