"""What kind of model a MODEL is, and which attention modules of it T-GATE can gate."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from comfy.ldm.modules.attention import BasicTransformerBlock, SpatialVideoTransformer
from torch import nn

from ..gate.presets import GENERIC
from .architectures import FAMILY_OF_CONFIG, UNET, Architecture, architecture_of, attention_sites

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

SIGNATURE_LENGTH = 16
_PLAYGROUND_LATENT = "SDXL_Playground_2_5"


def architecture(model: ModelPatcher) -> Architecture | None:
    """How the model is built; None where T-GATE does not know it, or it has no text cross-attention of its own."""
    return architecture_of(model.get_model_object("diffusion_model"))


def family_of(model: ModelPatcher) -> str:
    """Preset family of a model."""
    config = getattr(model.model, "model_config", None)
    if type(getattr(model.model, "latent_format", None)).__name__ == _PLAYGROUND_LATENT:
        return "playground-2.5"
    for config_class in type(config).__mro__:
        if config_class.__name__ in FAMILY_OF_CONFIG:
            return FAMILY_OF_CONFIG[config_class.__name__]
    return GENERIC


def attention_modules(diffusion_model: nn.Module) -> list[nn.Module]:
    """Self- and cross-attention modules of a network that T-GATE knows, in the order of its modules; else none."""
    known = architecture_of(diffusion_model)
    if known is None:
        return []
    if known is UNET:
        blocks = transformer_blocks(diffusion_model)
        return [attention for block in blocks for attention in (block.attn1, block.attn2) if attention is not None]
    return [site.module for site in attention_sites(diffusion_model, known)]


def network_signature(diffusion_model: nn.Module) -> str:
    """What tells networks apart: names and widths of their attentions, the same for all that were trained from one.

    Quantised weights have other shapes, but layers know their widths.
    """
    gated = {id(module) for module in attention_modules(diffusion_model)}
    parts = [
        f"{name}.{inner}:{layer.in_features}x{layer.out_features}"
        for name, module in diffusion_model.named_modules()
        if id(module) in gated
        for inner, layer in module.named_modules()
        if isinstance(layer, nn.Linear)
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:SIGNATURE_LENGTH]


def visits_per_run(diffusion_model: nn.Module) -> int:
    """How often a network comes to attentions of the same names when it runs once.

    The host gives a UNet's spatial and temporal transformers of a block the same names.
    """
    return 2 if any(isinstance(module, SpatialVideoTransformer) for module in diffusion_model.modules()) else 1


def transformer_blocks(unet: nn.Module) -> list[BasicTransformerBlock]:
    """Transformer blocks of a UNet, in the order of its modules."""
    return [module for module in unet.modules() if isinstance(module, BasicTransformerBlock)]
