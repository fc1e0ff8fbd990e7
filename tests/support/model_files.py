"""Small random models as files that the host's loaders know by their shapes: real classes, as few blocks as go."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import comfy.ops
import safetensors.torch
import tiny
import torch
import variants
from comfy.cldm.cldm import ControlNet
from comfy.ldm.audio.dit import AudioDiffusionTransformer
from comfy.ldm.audio.embedders import NumberConditioner
from comfy.ldm.hydit.models import HunYuanDiT
from comfy.ldm.kandinsky5.model import Kandinsky5
from comfy.ldm.lightricks.model import LTXVModel
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.ldm.pixart.pixartms import PixArtMS
from comfy.ldm.wan.model import WanModel

from tgate_dev.scenes.unet import WIDE_CONFIG

IN_CHECKPOINT = "model.diffusion_model."
# One level with one transformer block.
SD15: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [1],
    "channel_mult": [1],
    "transformer_depth": [1],
    "transformer_depth_output": [0, 0],
    "transformer_depth_middle": -2,
    "context_dim": 768,
    "num_heads": 8,
    "num_head_channels": -1,
    "use_spatial_transformer": True,
    "legacy": False,
}
# The host knows an SVD by its number of blocks and their width.
SVD: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 8,
    "out_channels": 4,
    "model_channels": 320,
    "num_res_blocks": [8],
    "channel_mult": [1],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [0] * 9,
    "transformer_depth_middle": -2,
    "context_dim": 1024,
    "adm_in_channels": 768,
    "num_classes": "sequential",
    "num_head_channels": 64,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": True,
    "legacy": False,
    "extra_ff_mix_layer": True,
    "use_spatial_context": True,
    "merge_strategy": "learned_with_images",
    "merge_factor": 0.0,
    "video_kernel_size": [3, 1, 1],
    "use_temporal_resblock": True,
    "use_temporal_attention": True,
    "disable_temporal_crossattention": False,
}


def sd15(path: Path) -> None:
    """SD 1.5 of one level, without encoders, for CheckpointLoaderSimple."""
    _save(path, IN_CHECKPOINT, UNetModel(**SD15, **_common()))


def controlnet(path: Path) -> None:
    """A ControlNet for the demo's checkpoint."""
    shape = {
        name: value for name, value in WIDE_CONFIG.items() if name not in ("out_channels", "transformer_depth_output")
    }
    _save(path, "", ControlNet(**shape, hint_channels=3, **_common()))


def pixart_sigma(path: Path) -> None:
    """PixArt-Sigma of one block, for UNETLoader."""
    _save(path, "", PixArtMS(depth=1, model_max_length=300, micro_condition=False, **_common()))


def pixart_alpha(path: Path) -> None:
    """PixArt-Alpha of one block, for UNETLoader."""
    _save(path, "", PixArtMS(depth=1, micro_condition=True, **_common()))


def svd(path: Path) -> None:
    """Stable Video Diffusion of one level, without encoders, for ImageOnlyCheckpointLoader."""
    _save(path, IN_CHECKPOINT, UNetModel(**SVD, **_common()))


def wan_t2v(path: Path) -> None:
    """Wan 2.1 text to video of two blocks and one head, for UNETLoader."""
    _save(path, "", WanModel(dim=128, ffn_dim=128, num_heads=1, num_layers=2, **_common()))


def ltxv(path: Path) -> None:
    """LTX-Video of one block, without encoders, for CheckpointLoaderSimple."""
    sizes = {"cross_attention_dim": 256, "attention_head_dim": 8, "num_layers": 1}
    _save(path, IN_CHECKPOINT, LTXVModel(**sizes, **_common()))


def wan_i2v(path: Path) -> None:
    """Wan 2.1 picture to video, as small as the other."""
    _save(path, "", WanModel(model_type="i2v", in_dim=36, dim=128, ffn_dim=128, num_heads=1, num_layers=2, **_common()))


def sd21(path: Path) -> None:
    """SD 2.1 of one level, without encoders, for CheckpointLoaderSimple."""
    shape = {**SD15, "context_dim": 1024, "num_heads": -1, "num_head_channels": 64, "use_linear_in_transformer": True}
    _save(path, IN_CHECKPOINT, UNetModel(**shape, **_common()))


def hunyuan_dit(path: Path) -> None:
    """HunyuanDiT of two blocks, without encoders, for CheckpointLoaderSimple."""
    _save(path, IN_CHECKPOINT, HunYuanDiT(hidden_size=256, depth=2, **_common()))


def kandinsky5(path: Path) -> None:
    """Kandinsky 5 Lite of two blocks, for UNETLoader."""
    sizes = {"model_dim": 128, "ff_dim": 128, "time_dim": 64, "num_text_blocks": 1, "num_visual_blocks": 2}
    _save(path, "", Kandinsky5(**sizes, **_common()))


def stable_audio(path: Path) -> None:
    """Stable Audio of one block with its encoders of seconds, for CheckpointLoaderSimple."""
    network = AudioDiffusionTransformer(embed_dim=768, depth=1, **_common())
    variants.give_frequencies(network)
    seconds = NumberConditioner(768, min_val=0, max_val=512)
    tiny.randomise(seconds, seed=3)
    others = {
        f"conditioner.conditioners.{name}.{key}": value
        for name in ("seconds_start", "seconds_total")
        for key, value in seconds.state_dict().items()
    }
    _save(path, "model.model.", network, others)


def header(path: Path, network: torch.nn.Module, says: Mapping[str, str] = MappingProxyType({})) -> None:
    """The header of a network's file alone, so that one of any size takes a moment."""
    shapes = {name: {"dtype": "F16", "shape": list(value.shape)} for name, value in network.state_dict().items()}
    encoded = json.dumps({"__metadata__": dict(says), **shapes}).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded)


def _common() -> dict[str, Any]:
    return {"dtype": torch.float32, "device": "cpu", "operations": comfy.ops.disable_weight_init}


def _save(
    path: Path, prefix: str, network: torch.nn.Module, others: Mapping[str, torch.Tensor] = MappingProxyType({})
) -> None:
    tiny.randomise(network, seed=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    named = {prefix + name: value for name, value in network.state_dict().items()}
    state = {name: value.half().clone() for name, value in (named | dict(others)).items()}
    safetensors.torch.save_file(state, path)
