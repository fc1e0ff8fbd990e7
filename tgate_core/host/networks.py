"""What kind of model a MODEL is, and which attention modules of it T-GATE can gate."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from comfy.ldm.modules.attention import BasicTransformerBlock, SpatialTransformer, SpatialVideoTransformer
from torch import nn

from ..engine.actions import CROSS_ATTENTION, SELF_ATTENTION
from ..engine.cache import Site
from ..gate.config import Scope
from ..presets import GENERIC
from .architectures import (
    FAMILY_OF_CONFIG,
    UNET,
    Architecture,
    Block,
    architecture_of,
    architecture_of_class,
    attention_sites,
    inline_sites,
    is_of_host,
    why_unknown,
)
from .compiled import COMPILED_IN_PLACE, is_compiled_whole

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

SIGNATURE_LENGTH = 16
# Of the host's BasicTransformerBlock; the second attention may be None.
_BLOCK_PARTS = ("attn1", "attn2", "norm1", "norm3")
PLAYGROUND = "playground-2.5"
_PLAYGROUND_LATENT = "SDXL_Playground_2_5"


def architecture(model: ModelPatcher) -> Architecture | None:
    """How the model is built; None where T-GATE does not know it."""
    return architecture_of_class(network_class(model))


def network_class(model: ModelPatcher) -> type:
    """Class of the network while this MODEL is sampled.

    Nodes that put classes of their own into a network do so by object patches. Those of the model that was sampled last
    stay until another one is loaded, so what the network's class is now says little.
    """
    network = model.get_model_object("diffusion_model")
    if network is not model.model.diffusion_model:
        return type(network)
    found: type = model.get_model_object("diffusion_model.__class__")
    return found


def scope_of(model: ModelPatcher) -> Scope:
    """What of a model can be gated."""
    return scope_of_architecture(architecture(model))


def scope_of_architecture(known: Architecture | None) -> Scope:
    """What of a network can be gated, by how it is built; None where T-GATE does not know it."""
    if known is None:
        return "guidance alone"
    if known.inline:
        return "inline joint attention"
    return "all" if known.has_cross_attention else "joint attention"


def why_not_gated(model: ModelPatcher) -> str | None:
    """Why no attention of a model is frozen; None where there is one that can be."""
    if scope_of(model) == "all":
        return None
    is_compiled = is_compiled_whole(model.get_model_object("diffusion_model"))
    return COMPILED_IN_PLACE if is_compiled else why_unknown(network_class(model))


def family_of(model: ModelPatcher) -> str:
    """Preset family of a model."""
    if type(getattr(model.model, "latent_format", None)).__name__ == _PLAYGROUND_LATENT:
        return PLAYGROUND
    return family_of_config(type(getattr(model.model, "model_config", None)))


def family_of_config(config: type) -> str:
    """Preset family by the class of the host's model configuration."""
    names = (base.__name__ for base in config.__mro__)
    return next((FAMILY_OF_CONFIG[name] for name in names if name in FAMILY_OF_CONFIG), GENERIC)


def attention_modules(diffusion_model: nn.Module, known: Architecture | None = None) -> list[nn.Module]:
    """Self- and cross-attention modules of a network that T-GATE knows, in the order of its modules; else none.

    Args:
        diffusion_model: the network.
        known: what it is, where that is not to be read from its class.
    """
    known = known or architecture_of(diffusion_model)
    if known is None:
        return []
    if known is UNET:
        blocks = transformer_blocks(diffusion_model)
        return [attention for block in blocks for attention in (block.attn1, block.attn2) if attention is not None]
    return [site.module for site in attention_sites(diffusion_model, known)]


def inline_attentions(diffusion_model: nn.Module) -> dict[Block, tuple[str, ...]]:
    """Names of a network's attentions that stand inline, by their block; of one that T-GATE knows, else none."""
    network: Any = diffusion_model._orig_mod if is_compiled_whole(diffusion_model) else diffusion_model
    known = architecture_of(network)
    return {} if known is None else inline_sites(network, known)


def inline_blocks(diffusion_model: nn.Module, known: Architecture | None = None) -> list[nn.Module]:
    """The blocks of a network in which attentions stand inline; see `attention_modules`."""
    known = known or architecture_of(diffusion_model)
    rules = () if known is None else known.inline
    return [block for rule in rules for block in diffusion_model.get_submodule(rule.blocks).children()]


def unet_sites(unet: Any) -> dict[nn.Module, Site]:
    """The places of a UNet's attentions, by the names that its options have there; of the host's own classes alone.

    In the order of its modules, which is that of its blocks. What is attended to follows from the flags of a block.
    """
    if not is_of_host(type(unet)):
        return {}
    middle = [] if unet.middle_block is None else [unet.middle_block]
    found: dict[nn.Module, Site] = {}
    for name, stages in (("input", unet.input_blocks), ("middle", middle), ("output", unet.output_blocks)):
        for number, stage in enumerate(stages):
            for layer in stage.children():
                if type(layer) in (SpatialTransformer, SpatialVideoTransformer):
                    found.update(_layer_sites(layer, (name, number)))
    return found


def _layer_sites(layer: SpatialTransformer, where: tuple[str, int]) -> Iterator[tuple[nn.Module, Site]]:
    for nth, blocks in enumerate((layer.transformer_blocks, getattr(layer, "time_stack", ()))):
        for index, block in enumerate(blocks):
            yield from _block_sites(block, where, index, nth)


def _block_sites(block: Any, where: tuple[str, int], index: int, nth: int) -> Iterator[tuple[nn.Module, Site]]:
    if type(block) is not BasicTransformerBlock:
        return
    yield (
        block.attn1,
        Site(CROSS_ATTENTION if block.disable_self_attn else SELF_ATTENTION, ("attn1", where), index, nth),
    )
    if block.attn2 is not None:
        kind = SELF_ATTENTION if block.switch_temporal_ca_to_sa else CROSS_ATTENTION
        yield block.attn2, Site(kind, ("attn2", where), index, nth)


def network_signature(model: ModelPatcher) -> str:
    """What tells networks apart: names and widths of their attentions, the same for all that were trained from one.

    Of attentions that stand inline, those of their blocks. Quantised weights have other shapes, but layers
    know their widths.
    """
    diffusion_model = model.model.diffusion_model
    known = architecture(model)
    found = attention_modules(diffusion_model, known) or inline_blocks(diffusion_model, known)
    gated = {id(module) for module in found}
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


def transformer_blocks(unet: nn.Module) -> list[Any]:
    """Transformer blocks of a UNet, in the order of its modules: known by their parts, as other nodes swap classes."""
    return [module for module in unet.modules() if all(hasattr(module, part) for part in _BLOCK_PARTS)]
