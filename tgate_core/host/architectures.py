"""The networks whose attentions T-GATE gates: where those are, and what goes in and out of them.

Facts about the host's classes, as data. A network is known by the name of its class, so that hosts which lack one need
no special case.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..engine.actions import CROSS_ATTENTION, SELF_ATTENTION, AttentionKind

# How T-GATE gets hold of an attention: through the host's patches around it, or by its `forward` alone.
Hold = Literal["patches", "forward"]


@dataclass(frozen=True)
class SiteRule:
    """Attention modules of one kind in a network.

    Attributes:
        kind: self- or cross-attention.
        pattern: regular expression that matches the modules' full names, and no others.
        flag: name and value of an attribute that the module has to have besides.
        tail: what follows the tokens in the tuple that the module returns; None where it returns the tokens alone.
    """

    kind: AttentionKind
    pattern: str
    flag: tuple[str, bool] | None = None
    tail: tuple[None, ...] | None = None

    def matches(self, name: str, module: nn.Module) -> bool:
        """Whether a module of this full name is one of them."""
        if re.fullmatch(self.pattern, name) is None:
            return False
        return self.flag is None or getattr(module, self.flag[0], None) is self.flag[1]


@dataclass(frozen=True)
class InlineRule:
    """Blocks of a network whose joint attention is no module: what reaches it is the host's override of attention.

    Attributes:
        blocks: name of the list of blocks.
        block_type: what the host calls them: "double" where they keep text and picture apart, else "single".
        second: path of a block's flag that says whether it attends a second time; none where no block does.
    """

    blocks: str
    block_type: str
    second: str = ""


@dataclass(frozen=True)
class Architecture:
    """One network.

    Attributes:
        name: what people call it.
        classes: the host's classes of it, by their full names; classes derived from them count as well.
        rules: which modules are attentions; none where `hold` is "patches": there the host says so itself.
        inline: which blocks hold attentions that are no modules; a network has rules, or these.
        has_numbers: whether the host tells the attentions in such blocks the type and number of their block.
        width: attribute that holds the number of channels of what such an attention puts out.
        hold: how T-GATE gets hold of an attention.
        input_name: the attentions' first parameter.
        second_name: their second parameter, where they take text and picture apart and return both, (input, second).
        batch_dim: batch dimension of what goes in and out of an attention; tokens and channels are the other two.
        patch: attributes that hold the side lengths of one token's patch of the latent, one for all dimensions, or one
            for each of the last; none where a token is one latent pixel.
        in_files: what the host's detection calls it in a model's file: its `image_model` or `audio_model`; else "unet",
            or the class of its configuration.
    """

    name: str
    classes: tuple[str, ...]
    rules: tuple[SiteRule, ...] = ()
    inline: tuple[InlineRule, ...] = ()
    has_numbers: bool = True
    width: str = "hidden_size"
    hold: Hold = "forward"
    input_name: str = "x"
    second_name: str | None = None
    batch_dim: int = 0
    patch: tuple[str, ...] = ("patch_size",)
    in_files: tuple[str, ...] = ()

    @property
    def has_cross_attention(self) -> bool:
        """Whether text has an attention of its own; else text and picture share one, that counts as self-attention."""
        return self.hold == "patches" or any(rule.kind == CROSS_ATTENTION for rule in self.rules)

    def inline_outputs(self, network: nn.Module, size: Sequence[int]) -> int:
        """Elements of the outputs of all attentions that stand inline, for one latent of `size`, see `token_count`."""
        attentions = sum(map(len, inline_sites(network, self).values()))
        return attentions * self.token_count(network, size) * int(_attribute(network, self.width)) if attentions else 0

    def token_count(self, network: nn.Module, size: Sequence[int]) -> int:
        """Tokens of one latent.

        Args:
            network: an instance of one of the classes.
            size: the latent's dimensions behind its channels, such as (frames, height, width).
        """
        sides = [_attribute(network, name) for name in self.patch] or [1]
        if len(sides) == 1:
            sides = list(sides[0]) if isinstance(sides[0], Iterable) else sides * len(size)
        sides = [*[1] * len(size), *sides][-len(size) :]  # a still has no frames to divide
        return math.prod(math.ceil(length / side) for length, side in zip(size, sides, strict=True))


# A block by its type and its number among those of its type, as in the host's options.
Block = tuple[str, int]


@dataclass(frozen=True)
class AttentionSite:
    """One attention module of a network, by its full name."""

    name: str
    module: nn.Module
    rule: SiteRule


def _both(prefix: str, self_attention: str, cross_attention: str) -> tuple[SiteRule, ...]:
    """Rules for a list of blocks that hold one attention of each kind."""
    return (
        SiteRule(SELF_ATTENTION, rf"{prefix}\.\d+\.{self_attention}"),
        SiteRule(CROSS_ATTENTION, rf"{prefix}\.\d+\.{cross_attention}"),
    )


UNET = Architecture(
    name="UNet",
    classes=("comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel",),
    hold="patches",
    in_files=("unet",),
)

PIXART = Architecture(
    name="PixArt-Alpha, PixArt-Sigma",
    classes=("comfy.ldm.pixart.pixartms.PixArtMS",),
    rules=_both("blocks", "attn", "cross_attn"),
    in_files=("pixart_alpha", "pixart_sigma"),
)

# Its control blocks (VACE) attend to the text as well.
WAN = Architecture(
    name="Wan 2.1, Wan 2.2",
    classes=("comfy.ldm.wan.model.WanModel",),
    rules=_both("(?:vace_)?blocks", "self_attn", "cross_attn"),
    in_files=("wan2.1",),
)

# Video and sound are packed into one row of values, of which a token of either has as many as there are channels. What
# each of the two streams attends to in the other is left alone.
LTX_2 = Architecture(
    name="LTX-2",
    classes=("comfy.ldm.lightricks.av_model.LTXAVModel",),
    rules=_both("transformer_blocks", "(?:audio_)?attn1", "(?:audio_)?attn2"),
    patch=("in_channels",),
    in_files=("ltxav",),
)

LTXV = Architecture(
    name="LTX-Video",
    classes=("comfy.ldm.lightricks.model.LTXVModel",),
    rules=_both("transformer_blocks", "attn1", "attn2"),
    patch=(),
    in_files=("ltxv",),
)

COSMOS = Architecture(
    name="Cosmos 1",
    classes=("comfy.ldm.cosmos.model.GeneralDIT",),
    rules=(
        SiteRule(SELF_ATTENTION, r"blocks\.block\d+\.blocks\.\d+\.block\.attn", flag=("is_selfattn", True)),
        SiteRule(CROSS_ATTENTION, r"blocks\.block\d+\.blocks\.\d+\.block\.attn", flag=("is_selfattn", False)),
    ),
    batch_dim=1,
    patch=("patch_temporal", "patch_spatial", "patch_spatial"),
    in_files=("cosmos",),
)

COSMOS_PREDICT2 = Architecture(
    name="Cosmos Predict2, Anima",
    classes=("comfy.ldm.cosmos.predict2.MiniTrainDIT",),
    rules=_both("blocks", "self_attn", "cross_attn"),
    patch=("patch_temporal", "patch_spatial", "patch_spatial"),
    in_files=("cosmos_predict2", "anima"),
)

HUNYUAN_DIT = Architecture(
    name="HunyuanDiT",
    classes=("comfy.ldm.hydit.models.HunYuanDiT",),
    rules=(
        SiteRule(SELF_ATTENTION, r"blocks\.\d+\.attn1", tail=()),
        SiteRule(CROSS_ATTENTION, r"blocks\.\d+\.attn2", tail=()),
    ),
    in_files=("hydit", "hydit1"),
)

KANDINSKY5 = Architecture(
    name="Kandinsky 5",
    classes=("comfy.ldm.kandinsky5.model.Kandinsky5",),
    rules=_both("visual_transformer_blocks", "self_attention", "cross_attention"),
    in_files=("kandinsky5",),
)

STABLE_AUDIO = Architecture(
    name="Stable Audio",
    classes=("comfy.ldm.audio.dit.AudioDiffusionTransformer",),
    rules=_both(r"transformer\.layers", "self_attn", "cross_attn"),
    in_files=("dit1.0",),
)

ACE_STEP = Architecture(
    name="ACE-Step 1",
    classes=("comfy.ldm.ace.model.ACEStepTransformer2DModel",),
    rules=(
        SiteRule(SELF_ATTENTION, r"transformer_blocks\.\d+\.attn", tail=(None,)),
        SiteRule(CROSS_ATTENTION, r"transformer_blocks\.\d+\.cross_attn"),
    ),
    input_name="hidden_states",
    in_files=("ace",),
)

ACE_STEP_15 = Architecture(
    name="ACE-Step 1.5",
    classes=("comfy.ldm.ace.ace_step15.AceStepConditionGenerationModel",),
    rules=_both(r"decoder\.layers", "self_attn", "cross_attn"),
    input_name="hidden_states",
    patch=("decoder.patch_size",),
    in_files=("ace1.5",),
)

# What refines picture and text before they meet is small, and left alone. Ming-Image is of hosts newer than 0.30.
LUMINA = Architecture(
    name="Lumina 2, Z-Image, Ming-Image",
    classes=("comfy.ldm.lumina.model.NextDiT",),
    rules=(SiteRule(SELF_ATTENTION, r"layers\.\d+\.attention"),),
    in_files=("lumina2", "zimage_pixel", "ming_image"),
)

QWEN_IMAGE = Architecture(
    name="Qwen-Image",
    classes=("comfy.ldm.qwen_image.model.QwenImageTransformer2DModel",),
    rules=(SiteRule(SELF_ATTENTION, r"transformer_blocks\.\d+\.attn"),),
    input_name="hidden_states",
    second_name="encoder_hidden_states",
    in_files=("qwen_image",),
)

ERNIE_IMAGE = Architecture(
    name="Ernie-Image",
    classes=("comfy.ldm.ernie.model.ErnieImageModel",),
    rules=(SiteRule(SELF_ATTENTION, r"layers\.\d+\.self_attention"),),
    in_files=("ernie",),
)

OMNIGEN_2 = Architecture(
    name="OmniGen 2",
    classes=("comfy.ldm.omnigen.omnigen2.OmniGen2Transformer2DModel",),
    rules=(SiteRule(SELF_ATTENTION, r"layers\.\d+\.attn"),),
    input_name="hidden_states",
    in_files=("omnigen2",),
)

# The first blocks keep text and picture apart, and are left alone.
AURA_FLOW = Architecture(
    name="AuraFlow",
    classes=("comfy.ldm.aura.mmdit.MMDiT",),
    rules=(SiteRule(SELF_ATTENTION, r"single_layers\.\d+\.attn"),),
    input_name="c",
    in_files=("AuraFlow",),
)

# As with AuraFlow: most of its blocks come after those that keep text and picture apart.
HIDREAM = Architecture(
    name="HiDream",
    classes=("comfy.ldm.hidream.model.HiDreamImageTransformer2DModel",),
    rules=(SiteRule(SELF_ATTENTION, r"single_stream_blocks\.\d+\.block\.attn1"),),
    input_name="norm_image_tokens",
    in_files=("hidream",),
)

# Control networks of these classes exist, and are given none of the host's options. What refines HunyuanVideo's text
# comes before its blocks, and has no number.
FLUX = Architecture(
    name="Flux, Flux.2, LongCat-Image",
    classes=("comfy.ldm.flux.model.Flux",),
    inline=(InlineRule("double_blocks", "double"), InlineRule("single_blocks", "single")),
    in_files=("flux", "flux2"),
)

CHROMA = Architecture(
    name="Chroma",
    classes=("comfy.ldm.chroma.model.Chroma",),
    inline=(InlineRule("double_blocks", "double"), InlineRule("single_blocks", "single")),
    in_files=("chroma", "chroma_radiance"),
)

HUNYUAN_VIDEO = Architecture(
    name="HunyuanVideo, HunyuanImage 2.1",
    classes=("comfy.ldm.hunyuan_video.model.HunyuanVideo",),
    inline=(InlineRule("double_blocks", "double"), InlineRule("single_blocks", "single")),
    in_files=("hunyuan_video",),
)

HUNYUAN_3D = Architecture(
    name="Hunyuan3D 2",
    classes=("comfy.ldm.hunyuan3d.model.Hunyuan3Dv2",),
    inline=(InlineRule("double_blocks", "double"), InlineRule("single_blocks", "single")),
    has_numbers=False,
    width="latent_in.out_features",
    patch=(),
    in_files=("hunyuan3d2",),
)

SD3 = Architecture(
    name="SD 3, SD 3.5",
    classes=("comfy.ldm.modules.diffusionmodules.mmdit.MMDiT",),
    inline=(InlineRule("joint_blocks", "double", second="x_block.x_block_self_attn"),),
    has_numbers=False,
    in_files=("SD3",),
)

MOCHI = Architecture(
    name="Mochi",
    classes=("comfy.ldm.genmo.joint_model.asymm_models_joint.AsymmDiTJoint",),
    inline=(InlineRule("blocks", "double"),),
    has_numbers=False,
    width="hidden_size_x",
    patch=("x_embedder.proj.stride",),
    in_files=("mochi_preview",),
)

ARCHITECTURES = (
    UNET,
    PIXART,
    WAN,
    LTX_2,  # before the class that it is derived from
    LTXV,
    COSMOS,
    COSMOS_PREDICT2,
    HUNYUAN_DIT,
    KANDINSKY5,
    STABLE_AUDIO,
    ACE_STEP,
    ACE_STEP_15,
    LUMINA,
    QWEN_IMAGE,
    ERNIE_IMAGE,
    OMNIGEN_2,
    AURA_FLOW,
    HIDREAM,
    FLUX,
    CHROMA,
    HUNYUAN_VIDEO,
    HUNYUAN_3D,
    SD3,
    MOCHI,
)

# Preset family by the class of the host's model configuration, subclasses included; all others take the generic one.
FAMILY_OF_CONFIG = {
    "SD15": "sd15",
    "SD20": "sd21",
    "SDXL": "sdxl",
    "SVD_img2vid": "svd",
    "PixArtAlpha": "pixart",
}

JOINT_ATTENTION = "joint attention: nothing to freeze"
LEFT_ALONE = "T-GATE leaves the attention of this network alone: nothing to freeze"
OTHER_CODE = "another node runs this model by code of its own ({name})"
# Derived from one of the above, and yet not to be gated.
_EXCLUDED = {
    "comfy.ldm.wan.ar_model.CausalWanModel": "autoregressive Wan caches attention itself: nothing to freeze",
    # Of hosts newer than 0.30; attends twice in a block, by methods of its own.
    "comfy.ldm.wan.model_animate2.WanAnimate2Model": "Wan-Animate 2 has an attention of its own: nothing to freeze",
}
# Classes of the host's configurations of those.
_EXCLUDED_CONFIGS = {"WAN21_CausalAR_T2V", "WAN_Animate2"}
# Takes the rows of a call for two branches, one a half, whatever they are.
_HALVES_ARE_BRANCHES = "comfy.ldm.hunyuan3dv2_1.hunyuandit.HunYuanDiTPlain"
ONE_AT_A_TIME = (
    "this network mixes up the rows of a batch once one guidance branch runs alone: set batch_size to 1, and give each "
    "branch one prompt"
)
BOTH_BRANCHES = "this network takes both guidance branches or none: a newer ComfyUI (0.30 will do) runs one alone"
_HOST = "comfy."


def architecture_of(network: nn.Module) -> Architecture | None:
    """What kind of network it is; None for one that T-GATE does not know."""
    return architecture_of_class(type(network))


def architecture_of_class(network: type) -> Architecture | None:
    """What kind of network the instances of a class are; None for one that T-GATE does not know."""
    names = _names(network)
    if not _EXCLUDED.keys().isdisjoint(names):
        return None
    return next((known for known in ARCHITECTURES if any(name in names for name in known.classes)), None)


def architecture_of_config(config: Any) -> Architecture | None:
    """What kind of network the host's configuration of a model stands for; None for one that T-GATE does not know."""
    network, own = config.unet_config, type(config).__name__
    if own in _EXCLUDED_CONFIGS:
        return None
    name = network.get("image_model") or network.get("audio_model") or ("unet" if "model_channels" in network else own)
    return next((known for known in ARCHITECTURES if name in known.in_files), None)


def why_unknown(network: type) -> str:
    """Why no attention of a class is frozen: it is a joint one, or one that `architecture_of_class` does not know."""
    excluded = [reason for name, reason in _EXCLUDED.items() if name in _names(network)]
    if excluded:
        return excluded[0]
    if not is_of_host(network):
        return OTHER_CODE.format(name=network.__name__)
    return LEFT_ALONE if architecture_of_class(network) is None else JOINT_ATTENTION


def why_not_one_branch(network: type, rows: int) -> str | None:
    """Why a network cannot be given so many rows, latents times conds, of one branch alone; None where it can."""
    if _HALVES_ARE_BRANCHES not in _names(network):
        return None
    code = getattr(getattr(network, "forward", None), "__code__", None)
    if code is not None and "swap_cfg_halves" not in code.co_varnames:  # before 0.30
        return BOTH_BRANCHES
    return ONE_AT_A_TIME if rows > 1 else None


def is_of_host(network: type) -> bool:
    """Whether a class is the host's own."""
    return network.__module__.startswith(_HOST)


def _names(network: type) -> list[str]:
    """Full names of a class and those that it is derived from."""
    return [f"{base.__module__}.{base.__qualname__}" for base in network.__mro__]


def attention_sites(network: nn.Module, architecture: Architecture) -> list[AttentionSite]:
    """All attention modules that the rules of its architecture name, in the order of its modules."""
    # By the names that they have without what torch.compile makes of the modules around them.
    named = [(name.replace("_orig_mod.", ""), module) for name, module in network.named_modules()]
    return [
        AttentionSite(name, module, rule)
        for name, module in named
        for rule in architecture.rules
        if rule.matches(name, module)
    ]


def inline_sites(network: nn.Module, architecture: Architecture) -> dict[Block, tuple[str, ...]]:
    """Names of the attentions that stand inline, by their block, in the order in which the block comes to them."""
    found: dict[Block, tuple[str, ...]] = {}
    for rule in architecture.inline:
        for number, block in enumerate(network.get_submodule(rule.blocks).children()):
            name = f"{rule.blocks}.{number}"
            has_second = bool(rule.second) and bool(_attribute(block, rule.second))
            found[rule.block_type, number] = (name, f"{name}.second") if has_second else (name,)
    return found


def joined(streams: Sequence[Tensor]) -> Tensor:
    """Tokens of picture and text, (B, tokens, channels) each, one behind the other."""
    return streams[0] if len(streams) == 1 else torch.cat(list(streams), dim=1)


def unpack(result: Any, rule: SiteRule, lengths: Sequence[int] = ()) -> Tensor | None:
    """The tokens in what an attention returned; None where it has not the form that the rule states.

    Args:
        result: what it returned.
        rule: what that looks like.
        lengths: numbers of tokens that went in, of picture and text where they go apart.
    """
    if len(lengths) > 1:
        is_fitting = isinstance(result, tuple) and [one.shape[1] for one in result] == [*lengths]
        return joined(result) if is_fitting else None
    if rule.tail is None:
        return result if isinstance(result, Tensor) else None
    if not isinstance(result, tuple) or result[1:] != rule.tail:
        return None
    return result[0] if isinstance(result[0], Tensor) else None


def pack(tokens: Tensor, rule: SiteRule, lengths: Sequence[int] = ()) -> Any:
    """The reverse of `unpack`."""
    if len(lengths) > 1:
        return torch.split(tokens, [*lengths], dim=1)
    return tokens if rule.tail is None else (tokens, *rule.tail)


def _attribute(network: nn.Module, path: str) -> Any:
    value: Any = network
    for name in path.split("."):
        value = getattr(value, name)
    return value
