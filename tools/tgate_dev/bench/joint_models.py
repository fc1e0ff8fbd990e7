"""Full-size models whose guidance is all that can be dropped, most of them with joint attention, as data.

Sizes of pictures, videos and texts are those of the host's templates, numbers of layers those of the published weights.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor

from .models import TEXT_TOKENS, FullSizeModel, read_by_host, square_latent

# 1024 x 1024 pixels: of 16 channels with 8 pixels to a place, and of 128 channels with 16.
_PICTURE, _COARSE = (1, 16, 128, 128), (1, 128, 64, 64)


def _pooled(width: int) -> dict[str, Tensor]:
    return {"pooled_output": torch.zeros(1, width)}


def _sd35(depth: int, places: int, with_self_attention: int) -> FullSizeModel:
    """SD 3.5 of so many blocks, the first of which attend to the picture once more, with positions of a square."""
    embedder = {"in_features": 4096, "out_features": depth * 64}
    network = {
        "depth": depth,
        "patch_size": 2,
        "out_channels": 16,
        "input_size": None,
        "adm_in_channels": 2048,
        "context_embedder_config": {"target": "torch.nn.Linear", "params": embedder},
        "num_patches": places**2,
        "pos_embed_max_size": places,
        "qk_norm": "rms",
        "x_block_self_attn_layers": [*range(with_self_attention)],
    }
    return FullSizeModel("SD3", _PICTURE, (2 * TEXT_TOKENS, 4096), network, _pooled(2048))


SD35_MEDIUM, SD35_LARGE = _sd35(24, 384, 13), _sd35(38, 192, 0)
AURA_FLOW = FullSizeModel("AuraFlow", square_latent(1024), (256, 2048), {"max_seq": 9216})

_FLUX_KIN: dict[str, Any] = {
    "image_model": "flux",
    "axes_dim": [16, 56, 56],
    "num_heads": 24,
    "mlp_ratio": 4.0,
    "theta": 10000,
    "in_channels": 16,
    "out_channels": 16,
    "qkv_bias": True,
    "txt_ids_dims": [],
    "hidden_size": 3072,
    "context_in_dim": 4096,
    "patch_size": 2,
    "vec_in_dim": None,
    "depth": 19,
    "depth_single_blocks": 38,
}
FLUX_DEV = FullSizeModel(
    "Flux", _PICTURE, (256, 4096), {**_FLUX_KIN, "vec_in_dim": 768, "guidance_embed": True}, _pooled(768)
)
_LONGCAT = {"depth": 10, "depth_single_blocks": 20, "context_in_dim": 3584, "txt_ids_dims": [1, 2]}
LONGCAT = FullSizeModel("LongCatImage", _PICTURE, (512, 3584), {**_FLUX_KIN, **_LONGCAT, "guidance_embed": False})
_CHROMA = {"in_channels": 64, "out_channels": 64, "in_dim": 64, "out_dim": 3072, "hidden_dim": 5120, "n_layers": 5}
CHROMA = FullSizeModel("Chroma", _PICTURE, (512, 4096), {**_FLUX_KIN, **_CHROMA, "image_model": "chroma"})


def _flux2(width: int, text: int, depth: int, single: int) -> FullSizeModel:
    network = {
        **_FLUX_KIN,
        "image_model": "flux2",
        "axes_dim": [32, 32, 32, 32],
        "num_heads": width // 128,
        "mlp_ratio": 3.0,
        "theta": 2000,
        "in_channels": 128,
        "out_channels": 128,
        "global_modulation": True,
        "mlp_silu_act": True,
        "qkv_bias": False,
        "ops_bias": False,
        "txt_ids_dims": [3],
        "patch_size": 1,
        "hidden_size": width,
        "context_in_dim": text,
        "depth": depth,
        "depth_single_blocks": single,
        "guidance_embed": False,
    }
    return FullSizeModel("Flux2", _COARSE, (512, text), network)


FLUX2_KLEIN_4B, FLUX2_KLEIN_9B = _flux2(3072, 7680, 5, 20), _flux2(4096, 12288, 8, 24)

_Z_IMAGE = {
    "patch_size": 2,
    "in_channels": 16,
    "dim": 3840,
    "cap_feat_dim": 2560,
    "n_layers": 30,
    "qk_norm": True,
    "n_heads": 30,
    "n_kv_heads": 30,
    "axes_dims": [32, 48, 48],
    "axes_lens": [1536, 512, 512],
    "rope_theta": 256.0,
    "ffn_dim_multiplier": 8 / 3,
    "z_image_modulation": True,
    "time_scale": 1000.0,
    "pad_tokens_multiple": 32,
}
Z_IMAGE = FullSizeModel("ZImage", _PICTURE, (128, 2560), _Z_IMAGE)
_QWEN_IMAGE = {"in_channels": 64, "num_layers": 60}
# 1328 x 1328 pixels; and 1024 x 1024 beside a picture of that size.
QWEN_IMAGE = FullSizeModel("QwenImage", (1, 16, 1, 166, 166), (256, 3584), _QWEN_IMAGE)
QWEN_IMAGE_EDIT = FullSizeModel(
    "QwenImage",
    (1, 16, 1, 128, 128),
    (512, 3584),
    {**_QWEN_IMAGE, "default_ref_method": "index_timestep_zero"},
    {"reference_latents": [torch.zeros(1, 16, 1, 128, 128)]},
)
ERNIE_IMAGE = FullSizeModel("ErnieImage", _COARSE, (256, 3072))
KREA_2 = FullSizeModel("Krea2", (1, 16, 1, 128, 128), (256, 12 * 2560))
_OMNIGEN_2 = read_by_host({"time_caption_embed.timestep_embedder.linear_1.bias": (1,)})
OMNIGEN_2 = FullSizeModel(
    "Omnigen2", _PICTURE, (256, 2048), _OMNIGEN_2, {"attention_mask": torch.ones(1, 256, dtype=torch.long)}
)


def _without_routing_tokens(network: Any) -> None:
    """Which expert a token goes to depends on its values; here one expert has all the tokens of those that are asked.

    The host's modules take (B, tokens, channels) and add what the shared experts make of them.
    """

    def forward(module: Any, x: Tensor) -> Tensor:
        asked = getattr(module, "num_activated_experts", None) or module.moe_top_k
        module.gate(x)
        made: Tensor = module.experts[0](x.repeat(1, asked, 1))[:, : x.shape[1]] + module.shared_experts(x)
        return made

    for module in network.modules():
        if hasattr(module, "shared_experts"):
            module.forward = MethodType(forward, module)


_LLAMA_TEXT = {"conditioning_llama3": torch.zeros(1, 32, 128, 4096)}
_HIDREAM = read_by_host({"caption_projection.0.linear.weight": (1, 1)})
HIDREAM = FullSizeModel(
    "HiDream", _PICTURE, (128, 4096), _HIDREAM, {**_pooled(2048), **_LLAMA_TEXT}, prepare=_without_routing_tokens
)

# 848 x 480 pixels, 37 frames.
MOCHI = FullSizeModel(
    "GenmoMochi",
    (1, 12, 7, 60, 106),
    (256, 4096),
    read_by_host({"t5_yproj.weight": (1, 1)}),
    {"attention_mask": torch.ones(1, 256, dtype=torch.long)},
)
_HUNYUAN: dict[str, Any] = {
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": [1, 2, 2],
    "vec_in_dim": None,
    "axes_dim": [16, 56, 56],
    "meanflow": False,
    "meanflow_sum": False,
    "context_in_dim": 3584,
    "mlp_ratio": 4.0,
    "depth": 20,
    "depth_single_blocks": 40,
    "theta": 256,
    "qkv_bias": True,
    "byt5": True,
    "guidance_embed": False,
    "use_cond_type_embedding": False,
    "vision_in_dim": None,
}
_HUNYUAN_1 = {"vec_in_dim": 768, "context_in_dim": 4096, "hidden_size": 3072, "num_heads": 24, "byt5": False}
_HUNYUAN_15 = {
    "in_channels": 65,
    "out_channels": 32,
    "patch_size": [1, 1, 1],
    "hidden_size": 2048,
    "num_heads": 16,
    "depth": 54,
    "depth_single_blocks": 0,
    "use_cond_type_embedding": True,
    "vision_in_dim": 1152,
    "meanflow_sum": True,
}
_HUNYUAN_IMAGE = {"in_channels": 64, "out_channels": 64, "patch_size": [1, 1], "axes_dim": [64, 64]}
# 848 x 480 pixels, 73 frames.
HUNYUAN_VIDEO = FullSizeModel(
    "HunyuanVideo",
    (1, 16, 19, 60, 106),
    (256, 4096),
    {**_HUNYUAN, **_HUNYUAN_1, "guidance_embed": True},
    _pooled(768),
)
# 1280 x 720 pixels, 121 frames.
HUNYUAN_VIDEO_15 = FullSizeModel(
    "HunyuanVideo15", (1, 32, 31, 45, 80), (256, 3584), {**_HUNYUAN, **_HUNYUAN_15}, _pooled(768)
)
# 2048 x 2048 pixels.
HUNYUAN_IMAGE_21 = FullSizeModel(
    "HunyuanImage21",
    (1, 64, 64, 64),
    (256, 3584),
    {**_HUNYUAN, **_HUNYUAN_IMAGE, "hidden_size": 3584, "num_heads": 28},
    _pooled(768),
)
# 720 x 480 pixels, 49 frames.
COGVIDEOX_5B = FullSizeModel(
    "CogVideoX_T2V",
    (1, 16, 13, 60, 90),
    (226, 4096),
    {"num_attention_heads": 48, "num_layers": 42, "in_channels": 16, "use_rotary_positional_embeddings": True},
)
_HUNYUAN3D_2 = {
    "in_channels": 64,
    "context_in_dim": 1536,
    "hidden_size": 1024,
    "mlp_ratio": 4.0,
    "num_heads": 16,
    "depth": 16,
    "depth_single_blocks": 32,
    "qkv_bias": True,
    "guidance_embed": False,
}
HUNYUAN3D_2 = FullSizeModel("Hunyuan3Dv2", (1, 64, 3072), (1370, 1536), _HUNYUAN3D_2)
_HUNYUAN3D_21 = {
    "in_channels": 64,
    "context_dim": 1024,
    "hidden_size": 2048,
    "depth": 21,
    "guidance_cond_proj_dim": None,
}
HUNYUAN3D_21 = FullSizeModel(
    "Hunyuan3Dv2_1", (1, 64, 4096), (1370, 1024), _HUNYUAN3D_21, prepare=_without_routing_tokens
)
