"""One tiny random-weight model of each network with joint attention, or of which guidance alone can be dropped.

All are the host's real classes at a few channels, as those of `families`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.model_patcher
import comfy.nested_tensor
import comfy.utils
import tiny
import torch
import variants
from families import Family
from torch import nn

TOKENS = 8


@dataclass(frozen=True)
class JointFamily(Family):
    """A tiny model without attentions that are frozen.

    Attributes:
        joint: regular expression that matches the names of its joint attentions, or of what each puts out last; none
            where they are not reused either, or are no modules.
        inline: the same for the layers behind joint attentions that are no modules.
    """

    joint: str = ""
    inline: str = ""

    @property
    def is_reused(self) -> bool:
        """Whether its joint attentions are reused."""
        return bool(self.joint or self.inline)

    def pairs(self, model: comfy.model_patcher.ModelPatcher) -> list[tuple[nn.Module, nn.Module]]:
        """Joint attentions, as self-attention; in place of cross-attention, and where there are none, what never runs.

        The reference takes none at all for those of a UNet.
        """
        named = model.model.diffusion_model.named_modules()
        found = [module for name, module in named if self.joint and re.fullmatch(self.joint, name)]
        return [(module, nn.Identity()) for module in found or [nn.Identity()]]

    def reference(self, model: comfy.model_patcher.ModelPatcher, **schedule: Any) -> comfy.model_patcher.ModelPatcher:
        """See `Family`."""
        named = model.model.diffusion_model.named_modules()
        found = [(name, layer) for name, layer in named if re.fullmatch(self.inline, name)]
        behind = {layer: _attended(name, layer) for name, layer in found if isinstance(layer, nn.Linear)}
        return super().reference(model, inline=behind, **schedule)


@dataclass(frozen=True)
class VideoWithSound(JointFamily):
    """A tiny model of two latents, which the host packs into one; its attentions are gated like any other's."""

    sound: tuple[int, ...] = ()

    def pairs(self, model: comfy.model_patcher.ModelPatcher) -> list[tuple[nn.Module, nn.Module]]:
        """See `Family`; each block has those of the video and those of the sound."""
        blocks = model.model.diffusion_model.transformer_blocks
        return [pair for one in blocks for pair in ((one.attn1, one.attn2), (one.audio_attn1, one.audio_attn2))]

    def sample(self, model: comfy.model_patcher.ModelPatcher, **options: Any) -> torch.Tensor:
        """See `Family`; both latents as one row of values."""
        batch = options.pop("latent", self.empty_latent()).shape[0]
        shapes = [(batch, *self.latent), (batch, *self.sound)]
        empty = comfy.nested_tensor.NestedTensor(torch.zeros(shape) for shape in shapes)
        drawn = comfy.nested_tensor.NestedTensor(tiny.noise_of(seed, shape) for seed, shape in enumerate(shapes))
        made: Any = super().sample(model, **{"latent": empty, "drawn": drawn, **options})
        return comfy.utils.pack_latents(made.unbind())[0]


def _attended(name: str, layer: Any) -> int:
    """How many channels an attention gives to the layer behind it: Flux's single ones take more besides."""
    width: int = layer.out_features if name.endswith("linear2") else layer.in_features
    return width


def _pooled(width: int) -> Callable[[int, int], dict[str, Any]]:
    return lambda seed, tokens: {"pooled_output": torch.randn(1, width, generator=torch.Generator().manual_seed(seed))}


def _mask(_seed: int, tokens: int) -> dict[str, Any]:
    return {"attention_mask": torch.ones(1, tokens, dtype=torch.long)}


def _llama(seed: int, tokens: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(6000 + seed)
    return {**_pooled(16)(seed, tokens), "conditioning_llama3": torch.randn(1, 2, tokens, 32, generator=generator)}


def _reference_picture(seed: int, _tokens: int) -> dict[str, Any]:
    return {"reference_latents": [tiny.noise_of(7, (1, 16, 1, 8, 8))]}


def _with_modulation(config: Any) -> comfy.model_patcher.ModelPatcher:
    """With weights in the layers beside its norms, which else let nothing of the text through."""
    patcher = variants.build(config)
    generator = torch.Generator().manual_seed(8)
    for name, parameter in patcher.model.diffusion_model.named_parameters():
        if "norm" in name and parameter.ndim > 1:
            parameter.data = torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5
    return patcher


def _with_positions(config: Any) -> comfy.model_patcher.ModelPatcher:
    """With values for positions that come with a checkpoint."""
    patcher = variants.build(config)
    positions = patcher.model.diffusion_model.pos_embed
    positions.copy_(tiny.noise_of(9, positions.shape))
    return patcher


_FLUX: dict[str, Any] = {
    "image_model": "flux",
    "axes_dim": [4, 6, 6],
    "num_heads": 2,
    "mlp_ratio": 2.0,
    "theta": 10000,
    "in_channels": 16,
    "out_channels": 16,
    "qkv_bias": True,
    "txt_ids_dims": [],
    "hidden_size": 32,
    "context_in_dim": 32,
    "patch_size": 2,
    "vec_in_dim": None,
    "depth": 1,
    "depth_single_blocks": 1,
}
_LUMINA: dict[str, Any] = {
    "patch_size": 2,
    "in_channels": 16,
    "cap_feat_dim": 32,
    "n_layers": 2,
    "n_refiner_layers": 1,
    "qk_norm": True,
    "dim": 64,
    "n_heads": 2,
    "n_kv_heads": 1,
    "multiple_of": 32,
    "axes_dims": [8, 12, 12],
    "axes_lens": [300, 64, 64],
    "rope_theta": 256.0,
    "ffn_dim_multiplier": 1.0,
}
_Z_IMAGE = {
    "dim": 256,
    "n_heads": 8,
    "n_kv_heads": 8,
    "n_layers": 1,
    "z_image_modulation": True,
    "time_scale": 1000.0,
    "pad_tokens_multiple": 32,
}
_QWEN: dict[str, Any] = {
    "in_channels": 64,
    "num_layers": 2,
    "attention_head_dim": 32,
    "num_attention_heads": 2,
    "joint_attention_dim": 32,
    "axes_dims_rope": (8, 12, 12),
}
_QWEN_OUT, _LUMINA_OUT = r"transformer_blocks\.\d+\.attn\.(to_out\.0|to_add_out)", r"layers\.\d+\.attention"
_HUNYUAN: dict[str, Any] = {
    "image_model": "hunyuan_video",
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": [1, 2, 2],
    "vec_in_dim": None,
    "axes_dim": [8, 12, 12],
    "meanflow": False,
    "meanflow_sum": False,
    "context_in_dim": 32,
    "hidden_size": 64,
    "num_heads": 2,
    "mlp_ratio": 2.0,
    "depth": 1,
    "depth_single_blocks": 1,
    "theta": 256,
    "qkv_bias": True,
    "byt5": False,
    "guidance_embed": False,
    "use_cond_type_embedding": False,
    "vision_in_dim": None,
}
_HUNYUAN_15 = {
    "in_channels": 65,
    "out_channels": 32,
    "patch_size": [1, 1, 1],
    "depth": 2,
    "depth_single_blocks": 0,
    "use_cond_type_embedding": True,
    "vision_in_dim": 1152,
    "meanflow_sum": True,
}
_SD35: dict[str, Any] = {
    "in_channels": 16,
    "depth": 2,
    "patch_size": 2,
    "out_channels": 16,
    "input_size": None,
    "adm_in_channels": 16,
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 32, "out_features": 128}},
    "num_patches": 64,
    "pos_embed_max_size": 8,
    "qk_norm": "rms",
    "x_block_self_attn_layers": [0],
}
_LTX_2: dict[str, Any] = {
    "cross_attention_dim": 64,
    "audio_cross_attention_dim": 32,
    "attention_head_dim": 32,
    "audio_attention_head_dim": 16,
    "num_attention_heads": 2,
    "audio_num_attention_heads": 2,
    "caption_channels": 16,
    "num_layers": 2,
    # Of what makes ready a text that has not been: the text here has been. Of their usual size they have gigabytes.
    "connector_num_layers": 1,
    "connector_attention_head_dim": 16,
    "connector_num_attention_heads": 2,
}
_LTX_23 = {
    **_LTX_2,
    "apply_gated_attention": True,
    "cross_attention_adaln": True,
    "caption_proj_before_connector": True,
}
_PICTURE = (16, 8, 8)
# The layers behind attentions that stand inline.
_FLUX_OUT = r"double_blocks\.\d+\.(img|txt)_attn\.proj|single_blocks\.\d+\.linear2"
_SD3_OUT = r"joint_blocks\.\d+\.(x|context)_block\.attn2?\.proj"
_MOCHI_OUT = r"blocks\.\d+\.attn\.(proj_x|proj_y)"

JOINT_FAMILIES: tuple[JointFamily, ...] = (
    JointFamily("SD 3.5", "SD3", _SD35, _PICTURE, 32, _pooled(16), build=_with_positions, inline=_SD3_OUT),
    JointFamily(
        "AuraFlow",
        "AuraFlow",
        {"dim": 32, "n_layers": 2, "n_double_layers": 1, "n_heads": 2, "global_conddim": 32, "cond_seq_dim": 32},
        (4, 8, 8),
        32,
        joint=r"single_layers\.\d+\.attn",
    ),
    JointFamily("Qwen-Image", "QwenImage", _QWEN, (16, 1, 8, 8), 32, joint=_QWEN_OUT),
    JointFamily("Qwen-Image-Edit", "QwenImage", _QWEN, (16, 1, 8, 8), 32, _reference_picture, joint=_QWEN_OUT),
    JointFamily("Z-Image", "ZImage", {**_LUMINA, **_Z_IMAGE}, _PICTURE, 32, joint=_LUMINA_OUT),
    JointFamily("Lumina 2", "Lumina2", _LUMINA, _PICTURE, 32, joint=_LUMINA_OUT),
    JointFamily(
        "Ernie-Image",
        "ErnieImage",
        {
            "hidden_size": 64,
            "num_attention_heads": 2,
            "num_layers": 2,
            "ffn_hidden_size": 64,
            "text_in_dim": 32,
            "rope_axes_dim": (8, 12, 12),
        },
        (128, 4, 4),
        32,
        joint=r"layers\.\d+\.self_attention",
    ),
    JointFamily(
        "LongCat-Image",
        "LongCatImage",
        {**_FLUX, "txt_ids_dims": [1, 2], "guidance_embed": False},
        _PICTURE,
        32,
        inline=_FLUX_OUT,
    ),
    JointFamily(
        "Chroma",
        "Chroma",
        {
            **_FLUX,
            "image_model": "chroma",
            "in_channels": 64,
            "out_channels": 64,
            "in_dim": 64,
            "out_dim": 32,
            "hidden_dim": 32,
            "n_layers": 1,
        },
        _PICTURE,
        32,
        inline=_FLUX_OUT,
    ),
    JointFamily(
        "Flux",
        "Flux",
        {**_FLUX, "vec_in_dim": 16, "guidance_embed": True},
        _PICTURE,
        32,
        _pooled(16),
        inline=_FLUX_OUT,
    ),
    JointFamily(
        "Flux.2",
        "Flux2",
        {
            **_FLUX,
            "image_model": "flux2",
            "axes_dim": [4, 4, 4, 4],
            "in_channels": 128,
            "out_channels": 128,
            "global_modulation": True,
            "mlp_silu_act": True,
            "qkv_bias": False,
            "ops_bias": False,
            "txt_ids_dims": [3],
            "patch_size": 1,
            "guidance_embed": False,
        },
        (128, 4, 4),
        32,
        inline=_FLUX_OUT,
    ),
    JointFamily(
        "HiDream",
        "HiDream",
        {
            "attention_head_dim": 32,
            "axes_dims_rope": [16, 8, 8],
            "caption_channels": [32, 32],
            "max_resolution": [16, 16],
            "in_channels": 16,
            "out_channels": 16,
            "llama_layers": [0, 1],
            "num_attention_heads": 2,
            "num_routed_experts": 2,
            "num_activated_experts": 1,
            "num_layers": 1,
            "num_single_layers": 1,
            "patch_size": 2,
            "text_emb_dim": 16,
        },
        _PICTURE,
        32,
        _llama,
        joint=r"single_stream_blocks\.\d+\.block\.attn1",
    ),
    JointFamily(
        "OmniGen 2",
        "Omnigen2",
        {
            "axes_dim_rope": [8, 12, 12],
            "axes_lens": [64, 64, 64],
            "hidden_size": 64,
            "multiple_of": 32,
            "num_attention_heads": 2,
            "num_kv_heads": 1,
            "num_layers": 2,
            "num_refiner_layers": 1,
            "text_feat_dim": 32,
            "timestep_scale": 1000.0,
        },
        _PICTURE,
        32,
        _mask,
        build=_with_modulation,
        joint=r"layers\.\d+\.attn",
    ),
    JointFamily(
        "HunyuanImage 2.1",
        "HunyuanImage21",
        {**_HUNYUAN, "in_channels": 64, "out_channels": 64, "patch_size": [1, 1], "axes_dim": [16, 16]},
        (64, 4, 4),
        32,
        _pooled(16),
        inline=_FLUX_OUT,
    ),
    JointFamily(
        "HunyuanVideo",
        "HunyuanVideo",
        {**_HUNYUAN, "vec_in_dim": 16, "guidance_embed": True},
        (16, 2, 4, 4),
        32,
        _pooled(16),
        inline=_FLUX_OUT,
    ),
    JointFamily(
        "HunyuanVideo 1.5",
        "HunyuanVideo15",
        {**_HUNYUAN, **_HUNYUAN_15},
        (32, 2, 4, 4),
        32,
        _pooled(16),
        inline=_FLUX_OUT,
    ),
    JointFamily(
        "Mochi",
        "GenmoMochi",
        {
            "depth": 2,
            "patch_size": 2,
            "num_heads": 2,
            "hidden_size_x": 64,
            "hidden_size_y": 32,
            "mlp_ratio_x": 192.0,
            "mlp_ratio_y": 192.0,
            "in_channels": 12,
            "qk_norm": True,
            "qkv_bias": False,
            "learn_sigma": False,
            "use_t5": True,
            "t5_feat_dim": 32,
            "t5_token_length": TOKENS,
        },
        (12, 2, 4, 4),
        32,
        _mask,
        inline=_MOCHI_OUT,
    ),
    JointFamily(
        "CogVideoX",
        "CogVideoX_T2V",
        {
            "num_attention_heads": 1,
            "num_layers": 2,
            "in_channels": 16,
            "time_embed_dim": 32,
            "text_embed_dim": 32,
            "use_rotary_positional_embeddings": True,
        },
        (16, 2, 4, 4),
        32,
    ),
    JointFamily(
        "Hunyuan3D 2",
        "Hunyuan3Dv2",
        {
            "in_channels": 8,
            "context_in_dim": 32,
            "hidden_size": 64,
            "mlp_ratio": 2.0,
            "num_heads": 2,
            "depth": 1,
            "depth_single_blocks": 1,
            "qkv_bias": True,
            "guidance_embed": False,
        },
        (8, 12),
        32,
        inline=_FLUX_OUT,
    ),
    JointFamily(
        "Hunyuan3D 2.1",
        "Hunyuan3Dv2_1",
        {
            "in_channels": 8,
            "context_dim": 32,
            "hidden_size": 64,
            "num_heads": 2,
            "depth": 3,
            "num_moe_layers": 1,
            "num_experts": 2,
            "moe_top_k": 1,
            "guidance_cond_proj_dim": None,
        },
        (8, 12),
        32,
    ),
    VideoWithSound("LTX-2", "LTXAV", _LTX_2, (128, 2, 4, 4), 32, joint="of their own", sound=(8, 6, 16)),
    VideoWithSound("LTX-2.3", "LTXAV", _LTX_23, (128, 2, 4, 4), 96, joint="of their own", sound=(8, 6, 16)),
)
