"""The shipped workflows of further model families sample on a real server: loader, TGATE Apply and sampler as shipped.

Models are small and random; where text and picture encoders would be needed, test nodes stand in for them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import model_files
import pytest
import torch
from safetensors.torch import load_file

from tgate_dev.prompts import Prompt, to_prompt
from tgate_dev.server import Server
from tgate_dev.server_client import run_prompt

REPO = Path(__file__).resolve().parents[2]
STAND_INS = {
    "CLIPTextEncode": "TGATETestRandomText",
    "CLIPTextEncodePixArtAlpha": "TGATETestRandomText",
    "SVD_img2vid_Conditioning": "TGATETestRandomPicture",
    "WanImageToVideo": "TGATETestRandomVideoStart",
    "Kandinsky5ImageToVideo": "TGATETestRandomVideoStart",
}
NEED_ENCODERS = ("clip", "clip_vision", "init_image", "vae", "clip_vision_output", "start_image")
SAVING = ("SaveImage", "SaveAnimatedWEBP", "PreviewAudio")
DECODING = ("VAEDecode", "VAEDecodeAudio")

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Family:
    """A workflow, the small model for it, and how large its latent gets.

    Attributes:
        workflow: its file, without the ending.
        make: writes the model.
        folder: where the server looks for it.
        loader_input: the input that names it.
        sizes: inputs to set wherever the workflow has them.
        latent: shape of what comes of it.
        text: what the stand-in for its text encoder is told; nothing for models that read T5.
    """

    workflow: str
    make: Callable[[Path], None]
    folder: str
    loader_input: str
    sizes: dict[str, float]
    latent: tuple[int, ...]
    text: dict[str, int] = field(default_factory=dict)


FAMILIES = [
    Family(
        "2 Picture - PixArt-Sigma",
        model_files.pixart_sigma,
        "diffusion_models",
        "unet_name",
        {"width": 272, "height": 272},
        (1, 4, 34, 34),
    ),
    *(
        Family(
            name,
            model_files.pixart_alpha,
            "diffusion_models",
            "unet_name",
            {"width": 272, "height": 272},
            (1, 4, 34, 34),
        )
        for name in ("2 Picture - PixArt-Alpha", "2 Picture - LCM PixArt-Alpha")
    ),
    Family(
        "3 Video - Stable Video Diffusion",
        model_files.svd,
        "checkpoints",
        "ckpt_name",
        {"width": 64, "height": 64, "video_frames": 2},
        (2, 4, 8, 8),
    ),
    Family(
        "3 Video - Wan 2.1 from text",
        model_files.wan_t2v,
        "diffusion_models",
        "unet_name",
        {"width": 32, "height": 32, "length": 5},
        (1, 16, 2, 4, 4),
    ),
    Family(
        "3 Video - LTX-Video",
        model_files.ltxv,
        "checkpoints",
        "ckpt_name",
        {"width": 64, "height": 64, "length": 9},
        (1, 128, 2, 2, 2),
    ),
    Family(
        "3 Video - Wan 2.1 from a picture",
        model_files.wan_i2v,
        "diffusion_models",
        "unet_name",
        {"width": 32, "height": 32, "length": 5},
        (1, 16, 2, 4, 4),
    ),
    Family(
        "2 Picture - SD 2.1",
        model_files.sd21,
        "checkpoints",
        "ckpt_name",
        {"width": 64, "height": 64},
        (1, 4, 8, 8),
        {"text_width": 1024},
    ),
    Family(
        "2 Picture - HunyuanDiT",
        model_files.hunyuan_dit,
        "checkpoints",
        "ckpt_name",
        {"width": 64, "height": 64},
        (1, 4, 8, 8),
        {"tokens": 77, "text_width": 1024, "mt5_tokens": 256},
    ),
    Family(
        "3 Video - Kandinsky 5 Lite",
        model_files.kandinsky5,
        "diffusion_models",
        "unet_name",
        {"width": 32, "height": 32, "length": 5},
        (1, 16, 2, 4, 4),
        {"text_width": 3584, "pooled_width": 768},
    ),
    Family(
        "4 Sound - Stable Audio Open",
        model_files.stable_audio,
        "checkpoints",
        "ckpt_name",
        {"seconds": 1.0},
        (1, 64, 22),
        {"text_width": 768},
    ),
]


def prompt_of(family: Family, graph: dict[str, Any], model: str, object_info: dict[str, Any]) -> Prompt:
    """The workflow with the small model, at a small size, up to the latent."""
    values = {family.loader_input: model, **family.sizes}
    prompt = {}
    for node_id, node in to_prompt(graph, object_info).items():
        kind, inputs = node["class_type"], node["inputs"]
        if kind in SAVING:
            continue
        if kind in DECODING:
            kind, inputs = "SaveLatent", {"samples": inputs["samples"], "filename_prefix": family.workflow}
        if kind in STAND_INS:
            kind = STAND_INS[kind]
            inputs = {name: value for name, value in inputs.items() if name not in NEED_ENCODERS}
        known = {name: values.get(name, value) for name, value in inputs.items()}
        if kind == STAND_INS["CLIPTextEncode"]:
            known |= family.text
        prompt[node_id] = {"class_type": kind, "inputs": known}
    return prompt


def has_promised_a_share(graph: dict[str, Any]) -> bool:
    """Whether the note says what share of the work is done; else the run is one of few steps."""
    note = next(node for node in graph["nodes"] if node["type"] == "MarkdownNote")["widgets_values"][0]
    return "It does 62 % of the work" in note


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.workflow)
def test_workflow_samples(family: Family, server: Server, object_info: dict[str, Any]) -> None:
    graph = json.loads((REPO / "workflows" / f"{family.workflow}.json").read_text(encoding="utf-8"))
    model = f"tiny_{family.workflow}.safetensors"
    family.make(server.base / "models" / family.folder / model)
    run = run_prompt(server, prompt_of(family, graph, model, object_info))
    latent = load_file(next(server.output.glob(f"{family.workflow}_*.latent")))["latent_tensor"]
    assert latent.shape == family.latent
    assert torch.isfinite(latent).all()
    assert latent.std() > 0
    wanted = "refreshed at|predicted: steps" if has_promised_a_share(graph) else "gate at step 1 of 4"
    assert re.search(wanted, run.log)
