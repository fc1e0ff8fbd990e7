"""One tiny random-weight model of each network that has a text cross-attention of its own, beside the UNets.

All are the host's real classes at a few channels; what a class fixes stays as it is.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import comfy.ldm.ace.ace_step15
import comfy.ldm.audio.embedders
import comfy.model_patcher
import comfy.ops
import comfy.supported_models
import tiny
import torch
import variants
from reference import reference

BLOCKS = 2


@dataclass(frozen=True)
class Family:
    """A tiny model and what it is sampled with.

    Attributes:
        name: of the family, for test ids.
        host_class: its class in `comfy.supported_models`.
        network: what the host reads from a checkpoint of it.
        latent: channels and size of its latent.
        text_width: channels of its text embeddings.
        options: what its conditionings hold besides, made from their seed and their number of tokens.
        build: how the host's model is made from its configuration.
        blocks: where the network keeps its blocks.
        attentions: how a block calls its self- and its cross-attention.
        batch_dim: batch dimension of what goes in and out of an attention.
        text_lengths: numbers of tokens that its text may have.
        sizes: sizes of its latent to draw from; none for that of `latent` alone.
        denoise: share of the noise schedule that is sampled; where it begins very high, little else shows in the end.
    """

    name: str
    host_class: str
    network: dict[str, Any] = field(repr=False)
    latent: tuple[int, ...]
    text_width: int
    options: Callable[[int, int], dict[str, Any]] = field(default=lambda seed, tokens: {}, repr=False)
    build: Callable[[Any], Any] = field(default=variants.build, repr=False)
    blocks: str = "blocks"
    attentions: tuple[str, str] = ("self_attn", "cross_attn")
    batch_dim: int = 0
    text_lengths: tuple[int, ...] = (8,)
    sizes: tuple[tuple[int, ...], ...] = ()
    denoise: float = 1.0

    @property
    def is_available(self) -> bool:
        """Whether the host at hand knows it."""
        return hasattr(comfy.supported_models, self.host_class)

    def make(self) -> comfy.model_patcher.ModelPatcher:
        """The model."""
        config_class = getattr(comfy.supported_models, self.host_class)
        return self.build(config_class({**self.network, "dtype": torch.float32}))

    def pairs(self, model: comfy.model_patcher.ModelPatcher) -> list[tuple[torch.nn.Module, torch.nn.Module]]:
        """Self- and cross-attention of each block."""
        network = model.model.diffusion_model
        blocks = [block for path in self.blocks.split() for block in network.get_submodule(path).children()]
        return [tuple(block.get_submodule(name) for name in self.attentions) for block in blocks]

    def reference(self, model: comfy.model_patcher.ModelPatcher, **schedule: Any) -> comfy.model_patcher.ModelPatcher:
        """A clone of the model, possibly patched by other nodes, that samples by the reference."""
        return reference(model, pairs=self.pairs(model), batch_dim=self.batch_dim, **schedule)

    def text(self, seed: int, tokens: int = 8, **options: Any) -> list[list[Any]]:
        """A conditioning of one random text embedding."""
        return tiny.text(seed, tokens, self.text_width, **self.options(seed, tokens), **options)

    def empty_latent(self, batch: int = 1, size: tuple[int, ...] | None = None) -> torch.Tensor:
        """An empty latent, (batch, channels, *size)."""
        return torch.zeros(batch, self.latent[0], *(self.latent[1:] if size is None else size))

    def sample(self, model: comfy.model_patcher.ModelPatcher, **options: Any) -> torch.Tensor:
        """One run of the host's KSampler, see `tiny.sample`."""
        settings = {"positive": self.text(1), "negative": self.text(2), "latent": self.empty_latent(), **options}
        return tiny.sample(model, **{"steps": 6, "scheduler": "simple", "denoise": self.denoise, **settings})


def build_stable_audio(config: Any) -> comfy.model_patcher.ModelPatcher:
    """The host makes this model from a checkpoint's embedders of seconds as well."""
    kind = config.unet_config.get("timestep_features_type")
    options = {} if kind is None else {"fourier_features_type": kind}  # older hosts have one kind
    embedder = comfy.ldm.audio.embedders.NumberConditioner(768, min_val=0, max_val=512, **options)
    tiny.randomise(embedder, 3)
    weights = {
        f"conditioner.conditioners.{place}.{name}": weight
        for place in ("seconds_start", "seconds_total")
        for name, weight in embedder.state_dict().items()
    }
    torch.manual_seed(0)
    base = config.get_model(weights)
    tiny.randomise(base.requires_grad_(False).diffusion_model, 0)
    variants.give_frequencies(base.diffusion_model)
    device = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(base, device, device)


def build_anima(config: Any) -> comfy.model_patcher.ModelPatcher:
    """With a small adapter of texts, whose size the class fixes: its weights are a thousand times those of the rest."""
    torch.manual_seed(0)
    base = config.get_model({}, device=variants.CPU)
    network = base.diffusion_model
    sizes = {"source_dim": 32, "target_dim": 32, "model_dim": 32, "num_layers": 1, "num_heads": 2}
    made = {"device": variants.CPU, "dtype": torch.float32, "operations": comfy.ops.disable_weight_init}
    network.llm_adapter = type(network.llm_adapter)(**sizes, **made)
    tiny.randomise(network, 0)
    return comfy.model_patcher.ModelPatcher(base, variants.CPU, variants.CPU)


def build_ace_step(config: Any) -> comfy.model_patcher.ModelPatcher:
    """With one layer of its encoder of lyrics, whose size the class fixes: six take most of a run's time."""
    patcher = variants.build(config)
    del patcher.model.diffusion_model.lyric_encoder.encoders[1:]
    return patcher


def _pooled(width: int) -> Callable[[int, int], dict[str, Any]]:
    return lambda seed, tokens: {"pooled_output": torch.randn(1, width, generator=torch.Generator().manual_seed(seed))}


def _hunyuan_text(seed: int, tokens: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(4000 + seed)
    return {
        "attention_mask": torch.ones(1, tokens),
        "conditioning_mt5xl": torch.randn(1, 6, 32, generator=generator),
        "attention_mask_mt5xl": torch.ones(1, 6),
    }


def _lyrics(seed: int, tokens: int) -> dict[str, Any]:
    return {"conditioning_lyrics": torch.tensor([[2, 3 + seed, 5, 7]])}


def _lyric_embeddings(seed: int, tokens: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(5000 + seed)
    return {
        "conditioning_lyrics": torch.randn(1, 4, 16, generator=generator),
        "reference_audio_timbre_latents": [torch.randn(1, 64, 12, generator=generator)],
    }


def _ace_encoder() -> dict[str, Any]:
    """Sizes of the text encoder, on hosts that tell them from those of the network."""
    parameters = inspect.signature(comfy.ldm.ace.ace_step15.AceStepConditionGenerationModel).parameters
    sizes = {"encoder_hidden_size": 32, "encoder_intermediate_size": 32, "encoder_num_heads": 2}
    return {name: size for name, size in sizes.items() if name in parameters}


_PIXART: dict[str, Any] = {
    "input_size": 32,
    "patch_size": 2,
    "hidden_size": 48,
    "depth": BLOCKS,
    "num_heads": 4,
    "caption_channels": 32,
    "model_max_length": 8,
}
_PIXART_BLOCKS: dict[str, Any] = {"attentions": ("attn", "cross_attn"), "denoise": 0.5}
_WAN: dict[str, Any] = {
    "image_model": "wan2.1",
    "patch_size": (1, 2, 2),
    "text_len": 8,
    "in_dim": 16,
    "dim": 48,
    "ffn_dim": 64,
    "freq_dim": 32,
    "text_dim": 32,
    "out_dim": 16,
    "num_heads": 2,
    "num_layers": BLOCKS,
}
_COSMOS: dict[str, Any] = {
    "max_img_h": 240,
    "max_img_w": 240,
    "max_frames": 128,
    "in_channels": 16,
    "out_channels": 16,
    "patch_spatial": 2,
    "patch_temporal": 1,
    "model_channels": 64,
    "num_blocks": BLOCKS,
    "num_heads": 2,
    "mlp_ratio": 2.0,
    "crossattn_emb_channels": 32,
    "pos_emb_cls": "rope3d",
    "pos_emb_learnable": True,
    "pos_emb_interpolation": "crop",
    "use_adaln_lora": True,
    "adaln_lora_dim": 16,
}
_COSMOS_1: dict[str, Any] = {
    "block_config": "FA-CA-MLP",
    "block_x_format": "THWBD",
    "extra_per_block_abs_pos_emb": True,
    "extra_per_block_abs_pos_emb_type": "learnable",
}
_VIDEO = (16, 3, 8, 8)

FAMILIES = (
    Family("PixArt-Alpha", "PixArtAlpha", {**_PIXART, "micro_condition": True}, (4, 36, 36), 32, **_PIXART_BLOCKS),
    Family("PixArt-Sigma", "PixArtSigma", {**_PIXART, "micro_condition": False}, (4, 36, 36), 32, **_PIXART_BLOCKS),
    Family("Wan T2V", "WAN21_T2V", {**_WAN, "model_type": "t2v"}, _VIDEO, 32),
    Family("Wan I2V", "WAN21_I2V", {**_WAN, "model_type": "i2v", "in_dim": 36}, _VIDEO, 32),
    Family(
        "Wan VACE",
        "WAN21_Vace",
        {**_WAN, "model_type": "vace", "vace_layers": 1, "vace_in_dim": 96},
        _VIDEO,
        32,
        blocks="blocks vace_blocks",
    ),
    Family(
        "LTX-Video",
        "LTXV",
        {
            "in_channels": 16,
            "cross_attention_dim": 32,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "caption_channels": 32,
            "num_layers": BLOCKS,
        },
        _VIDEO,
        32,
        lambda seed, tokens: {"attention_mask": torch.ones(1, tokens, dtype=torch.int64)},
        blocks="transformer_blocks",
        attentions=("attn1", "attn2"),
    ),
    Family(
        "Cosmos 1",
        "CosmosT2V",
        {**_COSMOS, **_COSMOS_1},
        _VIDEO,
        32,
        attentions=("blocks.0.block.attn", "blocks.1.block.attn"),
        batch_dim=1,
    ),
    Family("Cosmos Predict2", "CosmosT2IPredict2", _COSMOS, (16, 1, 8, 8), 32),
    Family("Anima", "Anima", _COSMOS, (16, 1, 8, 8), 32, build=build_anima),
    Family(
        "HunyuanDiT",
        "HunyuanDiT",
        {
            "input_size": 32,
            "hidden_size": 64,
            "depth": BLOCKS,
            "num_heads": 2,
            "mlp_ratio": 2.0,
            "text_states_dim": 32,
            "text_states_dim_t5": 32,
            "text_len": 8,
            "text_len_t5": 6,
            "size_cond": True,
        },
        (4, 16, 16),
        32,
        _hunyuan_text,
        attentions=("attn1", "attn2"),
    ),
    Family(
        "Kandinsky 5",
        "Kandinsky5",
        {
            "in_text_dim": 32,
            "in_text_dim2": 16,
            "time_dim": 32,
            "model_dim": 64,
            "ff_dim": 64,
            "visual_embed_dim": 132,
            "num_text_blocks": 1,
            "num_visual_blocks": BLOCKS,
            "axes_dims": (8, 12, 12),
        },
        _VIDEO,
        32,
        _pooled(16),
        blocks="visual_transformer_blocks",
        attentions=("self_attention", "cross_attention"),
    ),
    Family(
        "Stable Audio",
        "StableAudio",
        {
            "embed_dim": 64,
            "cond_token_dim": 768,
            "project_cond_tokens": True,
            "global_cond_dim": 1536,
            "depth": BLOCKS,
            "num_heads": 2,
        },
        (64, 24),
        768,
        build=build_stable_audio,
        blocks="transformer.layers",
    ),
    Family(
        "Stable Audio 3",
        "StableAudio3",
        {
            "audio_model": "dit1.0",
            "global_cond_shared_embed": True,
            "io_channels": 256,
            "embed_dim": 64,
            "cond_token_dim": 768,
            "project_cond_tokens": True,
            "global_cond_dim": 768,
            "global_cond_type": "adaLN",
            "local_add_cond_dim": 257,
            "num_memory_tokens": 1,
            "timestep_features_type": "expo",
            "attn_kwargs": {"qk_norm": "rms", "differential": True},
            "norm_type": "rms_norm",
            "depth": BLOCKS,
            "num_heads": 2,
        },
        (256, 24),
        768,
        build=build_stable_audio,
        blocks="transformer.layers",
    ),
    Family(
        "ACE-Step 1",
        "ACEStep",
        {
            "num_layers": BLOCKS,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "mlp_ratio": 2.0,
            "text_embedding_dim": 32,
            "lyric_encoder_vocab_size": 32,
        },
        (8, 16, 12),
        32,
        _lyrics,
        build=build_ace_step,
        blocks="transformer_blocks",
        attentions=("attn", "cross_attn"),
    ),
    Family(
        "ACE-Step 1.5",
        "ACEStep15",
        {
            "hidden_size": 32,
            "text_hidden_dim": 16,
            "num_dit_layers": BLOCKS,
            "num_lyric_layers": 1,
            "num_timbre_layers": 1,
            "num_tokenizer_layers": 1,
            "num_heads": 2,
            "num_kv_heads": 1,
            "head_dim": 16,
            "intermediate_size": 32,
            "fsq_dim": 32,
            **_ace_encoder(),
        },
        (64, 24),
        16,
        _lyric_embeddings,
        blocks="decoder.layers",
    ),
)
