"""Test-only nodes that hook models other than UNets the way third-party packs do; each returns a patched clone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import PatcherInjection
from families import Family
from foreign_nodes import LouderForward
from torch import Tensor, nn

# Families whose networks let other nodes replace a whole block.
REPLACES_BLOCKS = ("Wan T2V", "Wan I2V", "LTX-Video", "HunyuanDiT", "Stable Audio")
# Families whose attentions run patches, of another protocol than a UNet's.
HAS_DICT_PATCHES = ("Wan T2V", "Wan I2V", "Wan VACE")


def scaled(output: Any, factor: float) -> Any:
    """What an attention returned, its tokens scaled."""
    return (output[0] * factor, *output[1:]) if isinstance(output, tuple) else output * factor


class LouderOutput(LouderForward):
    """As `LouderForward`, for attentions with any inputs, some of which return more than tokens."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The module's output, louder."""
        return scaled(self._found(*args, **kwargs), 1.2)


def forward_injection(model: ModelPatcher, family: Family) -> ModelPatcher:
    """An injection that wraps the `forward` of every attention."""
    hooks: list[LouderOutput] = []

    def inject(patcher: ModelPatcher) -> None:
        hooks.extend(LouderOutput(attention) for pair in family.pairs(patcher) for attention in pair)

    def eject(_patcher: ModelPatcher) -> None:
        while hooks:
            hooks.pop().eject()

    patched = model.clone()
    patched.set_injections("louder", [PatcherInjection(inject=inject, eject=eject)])
    return patched


def forward_object_patch(model: ModelPatcher, family: Family) -> ModelPatcher:
    """Object patches in place of the `forward` of all cross-attentions, which also write into their input."""
    patched = model.clone()
    names: dict[nn.Module, str] = {module: name for name, module in model.model.diffusion_model.named_modules()}
    for _, attention in family.pairs(model):
        key = f"diffusion_model.{names[attention]}.forward"
        original = patched.get_model_object(key)
        patched.add_object_patch(key, _in_place(original))
    return patched


def _in_place(original: Callable[..., Any]) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        output = original(*args, **kwargs)
        tokens = output[0] if isinstance(output, tuple) else output
        tokens.mul_(0.7)
        return output

    return forward


def block_replacement(model: ModelPatcher, family: Family) -> ModelPatcher:
    """A replacement of the first block that runs the block and makes its picture tokens louder."""

    def replacement(args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
        out = extra["original_block"](args)
        return {key: value * 1.1 if isinstance(value, Tensor) else value for key, value in out.items()}

    patched = model.clone()
    patched.set_model_patch_replace(replacement, "dit", "double_block", 0)
    return patched


def dict_patches(model: ModelPatcher, family: Family) -> ModelPatcher:
    """Patches of a UNet's names and another protocol: one dictionary in, tokens out."""
    patched = model.clone()
    patched.set_model_patch(lambda args: args["x"] * 0.8, "attn1_patch")
    patched.set_model_patch(lambda args: args["x"] * 1.1, "attn2_patch")
    return patched


FamilyNode = Callable[[ModelPatcher, Family], ModelPatcher]
FAMILY_NODES: dict[str, FamilyNode] = {
    "injection": forward_injection,
    "object patch": forward_object_patch,
    "block replacement": block_replacement,
    "dict patches": dict_patches,
}


def nodes_for(family: Family) -> dict[str, FamilyNode]:
    """The nodes that the family's network has places for."""
    places = {"block replacement": REPLACES_BLOCKS, "dict patches": HAS_DICT_PATCHES}
    return {name: node for name, node in FAMILY_NODES.items() if family.name in places.get(name, (family.name,))}
