"""Test-only nodes that hook a MODEL the way third-party packs do; each returns a patched clone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import comfy.samplers
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import PatcherInjection
from tiny import blocks
from torch import Tensor, nn

IMAGE_TOKENS = 4
# Every transformer block of `tiny.sd15`, as the host numbers them.
TINY_BLOCKS = [("input", 1), ("input", 3), ("middle", 0), ("output", 0), ("output", 1), ("output", 2), ("output", 3)]


@dataclass(frozen=True)
class ImagePrompt:
    """One image of an image-prompt adapter: its strength, and a mask (rows, columns) of where it counts."""

    seed: int
    weight: float
    mask: Tensor | None = None

    def tokens(self, width: int, block: tuple[str, int]) -> tuple[Tensor, Tensor]:
        """The image's keys and values in one block, each (1, IMAGE_TOKENS, width)."""
        generator = torch.Generator().manual_seed(self.seed * 100 + TINY_BLOCKS.index(block))
        keys, values = torch.randn(2, 1, IMAGE_TOKENS, width, generator=generator)
        return keys, values


@dataclass
class ImageAttention:
    """Replacement of one block's cross-attention: attention to the text plus masked attention to each image.

    Like image-prompt adapters do, it works out rows and columns of the tokens from their number alone, and gives the
    images to the cond chunks only.
    """

    block: tuple[str, int]
    images: list[ImagePrompt]
    calls: list[tuple[str, int]] = field(default_factory=list)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, extra_options: dict[str, Any]) -> Tensor:
        """Attention output, (chunks * B, tokens, width), from projected q, k and v."""
        self.calls.append(self.block)
        heads, branches = extra_options["n_heads"], extra_options["cond_or_uncond"]
        rows, columns = token_grid(q.shape[1], *extra_options["original_shape"][-2:])
        out = optimized_attention(q, k, v, heads)
        is_cond = torch.tensor([float(branch == 0) for branch in branches]).repeat_interleave(len(q) // len(branches))
        for image in self.images:
            keys, values = (t.expand(len(q), -1, -1) for t in image.tokens(q.shape[2], self.block))
            seen = optimized_attention(q, keys, values, heads) * image.weight * is_cond[:, None, None]
            if image.mask is not None:
                mask = torch.nn.functional.interpolate(image.mask[None, None], size=(rows, columns), mode="bilinear")
                seen = seen * mask.reshape(1, rows * columns, 1)
            out = out + seen
        return out


def token_grid(tokens: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of a block's tokens, for a latent of `height` x `width`."""
    rows = int(height / math.sqrt(height * width / tokens))
    rows += tokens % rows != 0
    if rows * (tokens // rows) != tokens:
        raise ValueError(f"{tokens} tokens are no grid of a latent of {height} x {width}")
    return rows, tokens // rows


def image_prompts(model: ModelPatcher) -> tuple[ModelPatcher, list[tuple[str, int]]]:
    """Two masked images and one unmasked, on every block; also returns the log of the blocks that were asked."""
    left, right = torch.zeros(2, 32, 32)
    left[:, :16], right[:, 16:] = 1.0, 0.7
    images = [ImagePrompt(1, 0.8, left), ImagePrompt(2, 1.2, right), ImagePrompt(3, 0.3)]
    patched = model.clone()
    calls: list[tuple[str, int]] = []
    for block in TINY_BLOCKS:
        name, number = block
        patched.set_model_attn2_replace(ImageAttention(block, images, calls), name, number)
    return patched, calls


def shrinking_pair(model: ModelPatcher) -> ModelPatcher:
    """attn1_patch and attn1_output_patch that hold state between them: queries are halved before, doubled after."""
    pending: list[int] = []

    def shrink(q: Tensor, k: Tensor, v: Tensor, extra_options: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        if pending:
            raise RuntimeError("two inputs without an output between them")
        pending.append(q.shape[1])
        return q[:, ::2], k, v

    def grow(n: Tensor, extra_options: dict[str, Any]) -> Tensor:
        tokens = pending.pop()
        if n.shape[1] != math.ceil(tokens / 2):
            raise RuntimeError(f"{n.shape[1]} tokens come out where {math.ceil(tokens / 2)} went in")
        return n.repeat_interleave(2, dim=1)[:, :tokens]

    patched = model.clone()
    patched.set_model_attn1_patch(shrink)
    patched.set_model_attn1_output_patch(grow)
    return patched


def in_place_output_patch(model: ModelPatcher) -> ModelPatcher:
    """Output patches of both attentions that write into what they are given."""

    def damp(n: Tensor, extra_options: dict[str, Any]) -> Tensor:
        return n.mul_(0.8)

    patched = model.clone()
    patched.set_model_attn1_output_patch(damp)
    patched.set_model_attn2_output_patch(damp)
    return patched


def unet_wrapper(model: ModelPatcher) -> ModelPatcher:
    """A unet wrapper that weakens every prediction, by branch."""

    def wrapper(apply_model: Callable[..., Tensor], args: dict[str, Any]) -> Tensor:
        out = apply_model(args["input"], args["timestep"], **args["c"])
        branches = args["cond_or_uncond"]
        weights = torch.tensor([1.0 - 0.02 * (branch + 1) for branch in branches])
        return out * weights.repeat_interleave(len(out) // len(branches))[:, None, None, None]

    patched = model.clone()
    patched.set_model_unet_function_wrapper(wrapper)
    return patched


def cfg_function(model: ModelPatcher) -> ModelPatcher:
    """A cfg function that guides less."""

    def guide(args: dict[str, Any]) -> Tensor:
        return args["uncond"] + (args["cond"] - args["uncond"]) * args["cond_scale"] * 0.8

    patched = model.clone()
    patched.set_model_sampler_cfg_function(guide)
    return patched


def pre_cfg_function(model: ModelPatcher) -> ModelPatcher:
    """A pre-cfg function that shifts the cond prediction."""

    def shift(args: dict[str, Any]) -> list[Tensor]:
        cond, *others = args["conds_out"]
        return [cond * 0.97, *others]

    patched = model.clone()
    patched.set_model_sampler_pre_cfg_function(shift)
    return patched


def post_cfg_function(model: ModelPatcher) -> ModelPatcher:
    """A post-cfg function that pulls the result towards the cond prediction."""

    def pull(args: dict[str, Any]) -> Tensor:
        return args["denoised"] * 0.9 + args["cond_denoised"] * 0.1

    patched = model.clone()
    patched.set_model_sampler_post_cfg_function(pull)
    return patched


def calc_cond_batch_function(model: ModelPatcher) -> ModelPatcher:
    """A calc_cond_batch function that asks the host for all conds and weakens the uncond prediction."""

    def calculate(args: dict[str, Any]) -> list[Tensor]:
        out = comfy.samplers.calc_cond_batch(
            args["model"], args["conds"], args["input"], args["sigma"], args["model_options"]
        )
        return [out[0], *(other * 0.95 for other in out[1:])]

    patched = model.clone()
    patched.set_model_sampler_calc_cond_batch_function(calculate)
    return patched


def attention_override(model: ModelPatcher) -> ModelPatcher:
    """An attention function of another pack, here one that softens the scores."""

    def soften(function: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return function(q * 0.5, k, v, *args, **kwargs)

    patched = model.clone()
    patched.model_options["transformer_options"]["optimized_attention_override"] = soften
    return patched


def forward_object_patch(model: ModelPatcher) -> ModelPatcher:
    """Object patches in place of the `forward` of both attentions of the middle block."""
    patched = model.clone()
    for name in ("attn1", "attn2"):
        key = f"diffusion_model.middle_block.1.transformer_blocks.0.{name}.forward"
        original = patched.get_model_object(key)

        def louder(x: Tensor, *args: Any, original: Callable[..., Tensor] = original, **kwargs: Any) -> Tensor:
            return original(x, *args, **kwargs) * 1.5

        patched.add_object_patch(key, louder)
    return patched


class LouderForward:
    """Wraps the `forward` of one module, and restores what it found whatever is there by then, as many packs do."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._found = module.forward
        module.forward = self

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The module's output, louder."""
        return self._found(x, *args, **kwargs) * 1.2

    def eject(self) -> None:
        """Put back what was found."""
        self._module.forward = self._found


def forward_injection(model: ModelPatcher) -> ModelPatcher:
    """An injection that wraps the `forward` of every attention."""
    hooks: list[LouderForward] = []

    def inject(patcher: ModelPatcher) -> None:
        for block in blocks(patcher):
            hooks.extend(LouderForward(attention) for attention in (block.attn1, block.attn2))

    def eject(patcher: ModelPatcher) -> None:
        while hooks:
            hooks.pop().eject()

    patched = model.clone()
    patched.set_injections("louder", [PatcherInjection(inject=inject, eject=eject)])
    return patched
