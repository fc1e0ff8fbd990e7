"""What kind of model a MODEL is, and which attention modules of it T-GATE can gate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy.ldm.modules.attention import BasicTransformerBlock
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import nn

from ..presets import GENERIC

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

# By the class of the host's model configuration, subclasses included.
_FAMILY_OF_CONFIG = {
    "SD15": "sd15",
    "SD20": "sd21",
    "SDXL": "sdxl",
    "SVD_img2vid": "svd",
}
_PLAYGROUND_LATENT = "SDXL_Playground_2_5"


def is_supported(model: ModelPatcher) -> bool:
    """Whether the model is built from the blocks that T-GATE knows how to gate."""
    return isinstance(model.get_model_object("diffusion_model"), UNetModel)


def family_of(model: ModelPatcher) -> str:
    """Preset family of a supported model."""
    config = getattr(model.model, "model_config", None)
    if type(getattr(model.model, "latent_format", None)).__name__ == _PLAYGROUND_LATENT:
        return "playground-2.5"
    for config_class in type(config).__mro__:
        if config_class.__name__ in _FAMILY_OF_CONFIG:
            return _FAMILY_OF_CONFIG[config_class.__name__]
    return GENERIC


def attention_modules(diffusion_model: nn.Module) -> list[nn.Module]:
    """Self- and cross-attention modules of a UNet, in the order of its modules."""
    blocks = [module for module in diffusion_model.modules() if isinstance(module, BasicTransformerBlock)]
    return [attention for block in blocks for attention in (block.attn1, block.attn2) if attention is not None]
