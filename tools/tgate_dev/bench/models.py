"""Full-size models of the host's own classes, as data.

Sizes of pictures and videos are those that the host's nodes suggest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import comfy.ldm.audio.embedders
import comfy.model_detection
import comfy.supported_models
import torch
from torch import Tensor

TEXT_TOKENS = 77
PIXELS_PER_LATENT = 8


@dataclass(frozen=True)
class FullSizeModel:
    """A published architecture and its usual output."""

    host_class: str  # in comfy.supported_models
    # Of one picture, video or piece of music, (1, channels, …); (frames, channels, …) where the host takes frames for
    # pictures.
    latent_shape: tuple[int, ...]
    text: tuple[int, int]  # tokens, width
    # What the host reads from its checkpoint, without what its class says and what equals the defaults.
    network: Mapping[str, Any] = field(default_factory=dict, repr=False)
    # The other entries of its conditionings, by the host's names.
    conditioning: Mapping[str, Any] = field(default_factory=dict, repr=False)
    # Those that the host needs to construct a model of this class.
    weights: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    # Of the sound beside a video.
    sound_shape: tuple[int, ...] | None = None
    # Replaces what the network cannot do on shapes.
    prepare: Callable[[Any], None] = field(default=lambda network: None, repr=False)

    def host_config(self) -> Any:
        """The host's configuration of the model, as its loaders make it from a checkpoint."""
        host_class = getattr(comfy.supported_models, self.host_class)
        return host_class({**host_class.unet_config, **self.network})


def read_by_host(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The configuration that the host reads from a checkpoint, given the weights that it looks at."""
    weights = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    found: dict[str, Any] = comfy.model_detection.detect_unet_config(weights, "")
    return found


def square_latent(pixels: int) -> tuple[int, int, int, int]:
    """Latent shape of a square picture, (1, 4, height, width)."""
    side = pixels // PIXELS_PER_LATENT
    return 1, 4, side, side


def unet(levels: Sequence[tuple[int, int]], middle: int, blocks: int = 2, **others: Any) -> dict[str, Any]:
    """Configuration of a UNet: of each level, its multiple of the model's channels, and the depth of its transformers.

    `middle` is the depth between the two halves; a level has this many residual blocks in the first half, and one more
    in the second.
    """
    return {
        "image_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "channel_mult": [channels for channels, _ in levels],
        "num_res_blocks": [blocks] * len(levels),
        "legacy": False,
        "use_spatial_transformer": True,
        "transformer_depth": [depth for _, depth in levels for _ in range(blocks)],
        "transformer_depth_output": [depth for _, depth in levels for _ in range(blocks + 1)],
        "transformer_depth_middle": middle,
        **others,
    }


_SD_LEVELS = ((1, 1), (2, 1), (4, 1), (4, 0))
SD15 = FullSizeModel("SD15", square_latent(512), (TEXT_TOKENS, 768), unet(_SD_LEVELS, middle=1))
SD21 = FullSizeModel("SD20", square_latent(768), (TEXT_TOKENS, 1024), unet(_SD_LEVELS, middle=1))
SDXL = FullSizeModel(
    "SDXL",
    square_latent(1024),
    (TEXT_TOKENS, 2048),
    unet(((1, 0), (2, 2), (4, 10)), middle=10, num_classes="sequential"),
    {"pooled_output": torch.zeros(1, 1280)},
)
_SVD: dict[str, Any] = {
    "in_channels": 8,
    "num_classes": "sequential",
    "use_spatial_context": True,
    "video_kernel_size": [3, 1, 1],
    "extra_ff_mix_layer": True,
    "merge_strategy": "learned_with_images",
}
# img2vid-xt: 1024 x 576 pixels, 25 frames. The input picture comes as one token of text and as further channels.
SVD = FullSizeModel("SVD_img2vid", (25, 4, 72, 128), (1, 1024), unet(_SD_LEVELS, middle=1, **_SVD))

_PIXART = {"input_size": 128, "pe_interpolation": 2}
_SIGMA = {**_PIXART, "micro_condition": False, "model_max_length": 300}
PIXART_ALPHA = FullSizeModel("PixArtAlpha", square_latent(1024), (120, 4096), _PIXART)
PIXART_SIGMA = FullSizeModel("PixArtSigma", square_latent(1024), (300, 4096), _SIGMA)

HUNYUAN_DIT = FullSizeModel(
    "HunyuanDiT",
    square_latent(1024),
    (77, 1024),
    {"depth": 40, "hidden_size": 1408, "mlp_ratio": 4.3637},
    {
        "attention_mask": torch.ones(1, 77),
        "conditioning_mt5xl": torch.zeros(1, 256, 2048),
        "attention_mask_mt5xl": torch.ones(1, 256),
    },
)

# 832 x 480 pixels, 81 frames.
_WAN_LATENT, _WAN_TEXT = (1, 16, 21, 60, 104), (512, 4096)
_WAN_1_3B = {"dim": 1536, "ffn_dim": 8960, "num_heads": 12, "num_layers": 30}
_WAN_14B = {"dim": 5120, "ffn_dim": 13824, "num_heads": 40, "num_layers": 40}
# The output of the host's CLIP vision encoder, (1, tokens, width).
_WAN_PICTURE = SimpleNamespace(penultimate_hidden_states=torch.zeros(1, 257, 1280))
WAN_T2V_1_3B = FullSizeModel("WAN21_T2V", _WAN_LATENT, _WAN_TEXT, _WAN_1_3B)
WAN_T2V_14B = FullSizeModel("WAN21_T2V", _WAN_LATENT, _WAN_TEXT, _WAN_14B)
# 1280 x 704 pixels, 121 frames.
_WAN_5B = {"dim": 3072, "ffn_dim": 14336, "num_heads": 24, "num_layers": 30, "in_dim": 48}
WAN22_TI2V_5B = FullSizeModel("WAN22_T2V", (1, 48, 31, 44, 80), _WAN_TEXT, _WAN_5B)
WAN_I2V_14B = FullSizeModel("WAN21_I2V", _WAN_LATENT, _WAN_TEXT, _WAN_14B, {"clip_vision_output": _WAN_PICTURE})

# 768 x 512 pixels, 97 frames.
_LTXV_MASK = {"attention_mask": torch.ones(1, 128, dtype=torch.long)}
LTXV_2B = FullSizeModel("LTXV", (1, 128, 13, 16, 24), (128, 4096), conditioning=_LTXV_MASK)
# The same with sound.
LTX_2 = FullSizeModel("LTXAV", (1, 128, 13, 16, 24), (1024, 2 * 3840), sound_shape=(1, 8, 97, 16))

_COSMOS_1_7B = read_by_host(
    {"blocks.block0.blocks.0.block.attn.to_q.0.weight": (4096, 4096), "x_embedder.proj.1.weight": (4096, 68)}
)
_PREDICT2_2B = read_by_host({"blocks.0.mlp.layer1.weight": (8192, 2048), "x_embedder.proj.1.weight": (2048, 68)})
# 1280 x 704 pixels, 121 frames.
COSMOS_7B = FullSizeModel("CosmosT2V", (1, 16, 16, 88, 160), (512, 1024), _COSMOS_1_7B)
# 1024 x 1024 pixels, one frame. Anima's text is the output of its adapter, which runs once per text, before sampling.
COSMOS_PREDICT2_2B = FullSizeModel("CosmosT2IPredict2", (1, 16, 1, 128, 128), (512, 1024), _PREDICT2_2B)
ANIMA = replace(COSMOS_PREDICT2_2B, host_class="Anima", network={**_PREDICT2_2B, "image_model": "anima"})

# 1024 x 1024 pixels. Text and picture share one attention.
_LUMINA_2 = {"cap_embedder.1.weight": (2304, 2304), "noise_refiner.0.attention.k_norm.weight": (96,)}
_LUMINA_2_LAYERS = {f"layers.{number}.ffn_norm1.weight": (2304,) for number in range(26)}
LUMINA_2 = FullSizeModel("Lumina2", (1, 16, 128, 128), (256, 2304), read_by_host({**_LUMINA_2, **_LUMINA_2_LAYERS}))

# 768 x 512 pixels, 121 frames.
KANDINSKY_5_LITE = FullSizeModel(
    "Kandinsky5", (1, 16, 31, 64, 96), (256, 3584), conditioning={"pooled_output": torch.zeros(1, 768)}
)

_KANDINSKY_5_IMAGE = {
    "axes_dims": (32, 48, 48),
    "rope_scale_factor": (1.0, 1.0, 1.0),
    "time_dim": 1024,
    "ff_dim": 10240,
    "num_text_blocks": 2,
    "num_visual_blocks": 50,
}
# 1024 x 1024 pixels.
KANDINSKY_5_IMAGE = FullSizeModel(
    "Kandinsky5Image",
    (1, 16, 1, 128, 128),
    (256, 3584),
    _KANDINSKY_5_IMAGE,
    {"pooled_output": torch.zeros(1, 768)},
)

# The embedders of start and length run on the CPU before sampling; the host takes their weights from the checkpoint.
_SECONDS = {
    f"conditioner.conditioners.{place}.{name}": weight
    for place in ("seconds_start", "seconds_total")
    for name, weight in comfy.ldm.audio.embedders.NumberConditioner(768).state_dict().items()
}
# 47.6 seconds.
STABLE_AUDIO_OPEN = FullSizeModel("StableAudio", (1, 64, 1024), (128, 768), weights=_SECONDS)
# Medium, 150 seconds. Its attentions take one of two from the other; its embedder of the length needs no frequencies.
_STABLE_AUDIO_3: dict[str, Any] = {
    "io_channels": 256,
    "embed_dim": 1536,
    "depth": 24,
    "num_heads": 24,
    "cond_token_dim": 768,
    "project_cond_tokens": True,
    "global_cond_dim": 768,
    "global_cond_type": "adaLN",
    "local_add_cond_dim": 257,
    "num_memory_tokens": 64,
    "timestep_features_type": "expo",
    "attn_kwargs": {"qk_norm": "rms", "differential": True},
    "norm_type": "rms_norm",
}
_LENGTH = {
    "conditioner.conditioners.seconds_total.embedder.embedding.1.weight": torch.zeros(768, 256),
    "conditioner.conditioners.seconds_total.embedder.embedding.1.bias": torch.zeros(768),
}
STABLE_AUDIO_3 = FullSizeModel("StableAudio3", (1, 256, 1615), (256, 768), _STABLE_AUDIO_3, weights=_LENGTH)

# 120 seconds.
ACE_STEP = FullSizeModel(
    "ACEStep",
    (1, 8, 16, 1291),
    (256, 768),
    read_by_host({"genre_embedder.weight": (2560, 512)}),
    {"conditioning_lyrics": torch.zeros(1, 512, dtype=torch.long)},
)


def _without_reading_references(network: Any) -> None:
    """Grouping references by piece of music needs their values; here each batch is one group.

    Of embeddings (B, width) it makes (pieces, references, width), and their mask.
    """
    network.encoder.timbre_encoder.unpack_timbre_embeddings = lambda packed, order: (
        packed.new_empty(len(packed), *packed.shape),
        order.new_empty(len(packed), len(packed)),
    )


# 120 seconds.
ACE_STEP_1_5 = FullSizeModel(
    "ACEStep15",
    (1, 64, 3000),
    (256, 1024),
    conditioning={"conditioning_lyrics": torch.zeros(1, 512, 1024)},
    prepare=_without_reading_references,
)
