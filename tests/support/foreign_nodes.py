"""Test-only nodes that hook a MODEL the way third-party packs do; each returns a patched clone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import comfy.samplers
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.ldm.modules.diffusionmodules.openaimodel import forward_timestep_embed
from comfy.ldm.modules.diffusionmodules.util import timestep_embedding
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP, PatcherInjection, WrappersMP
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


def mixed_attention(attention: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Attention of which each token gets a share of the one before; some networks norm what attention puts out."""
    output = attention(*args, **kwargs)
    return output * 0.8 + output.roll(1, 1) * 0.2


def override_at_each_step(model: ModelPatcher) -> ModelPatcher:
    """As BlockSparseAttention: an override that is put on top of whatever is there, unless that is its own."""
    patched = model.clone()
    own: set[Any] = set()

    def put(_patcher: ModelPatcher, _timestep: Tensor, model_options: dict[str, Any]) -> None:
        options = model_options["transformer_options"]
        before = options.get("optimized_attention_override")
        if before in own:
            return

        def override(attention: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            return mixed_attention(attention if before is None else partial(before, attention), *args, **kwargs)

        options["optimized_attention_override"] = override
        own.add(override)

    patched.add_callback(CallbacksMP.ON_PREPARE_STATE, put)
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


class BatchedTiles:
    """A unet wrapper that runs the network on column strips, several of them in one batch, as tiled samplers do."""

    def __init__(self, width: int, per_batch: int) -> None:
        self._width = width
        self._per_batch = per_batch

    def __call__(self, apply_model: Callable[..., Tensor], args: dict[str, Any]) -> Tensor:
        """The noise prediction, the shape of the input."""
        strips = args["input"].split(self._width, dim=-1)
        done: list[Tensor] = []
        for start in range(0, len(strips), self._per_batch):
            batch = torch.cat(strips[start : start + self._per_batch])
            count = len(batch) // len(args["input"])
            text = args["c"]["c_crossattn"].repeat(count, 1, 1)
            result = apply_model(batch, args["timestep"].repeat(count), **{**args["c"], "c_crossattn": text})
            done.extend(result.chunk(count))
        return torch.cat(done, dim=-1)


def batched_tiles(model: ModelPatcher, width: int = 4, per_batch: int = 4) -> ModelPatcher:
    """Four strips of a latent of 16 columns, all in one call of the network."""
    patched = model.clone()
    patched.set_model_unet_function_wrapper(BatchedTiles(width, per_batch))
    return patched


def own_windows(model: ModelPatcher, length: int = 4) -> ModelPatcher:
    """Windows over the frames (the batch) that are this node's own: each is evaluated by a call of what follows."""

    def windows(executor: Any, model: Any, conds: Any, x_in: Tensor, timestep: Tensor, *rest: Any) -> list[Tensor]:
        times = timestep.expand(len(x_in)).split(length)
        parts = [executor(model, conds, x, t, *rest) for x, t in zip(x_in.split(length), times, strict=True)]
        return [torch.cat(branch) for branch in zip(*parts, strict=True)]

    patched = model.clone()
    patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "own windows", windows)
    return patched


def own_block_loop(model: ModelPatcher) -> ModelPatcher:
    """A unet wrapper that calls the blocks of the network itself, and never the network."""

    def run_blocks(_apply_model: Callable[..., Tensor], args: dict[str, Any]) -> Tensor:
        base: Any = patched.model
        x, sigma, c = args["input"], args["timestep"], args["c"]
        h = base.model_sampling.calculate_input(sigma, x)
        unet, text, options = base.diffusion_model, c["c_crossattn"], c["transformer_options"]
        times = base.model_sampling.timestep(sigma).float()
        emb = unet.time_embed(timestep_embedding(times, unet.model_channels))
        skips = []
        for block in unet.input_blocks:
            h = forward_timestep_embed(block, h, emb, text, options)
            skips.append(h)
        h = forward_timestep_embed(unet.middle_block, h, emb, text, options)
        for block in unet.output_blocks:
            h = torch.cat([h, skips.pop()], dim=1)
            h = forward_timestep_embed(block, h, emb, text, options, skips[-1].shape if skips else None)
        return base.model_sampling.calculate_denoised(sigma, unet.out(h), x)

    patched = model.clone()
    patched.set_model_unet_function_wrapper(run_blocks)
    return patched


def own_network_forward(model: ModelPatcher) -> ModelPatcher:
    """An object patch in place of the network's `forward`, which runs it without anybody's options."""
    patched = model.clone()
    original = patched.get_model_object("diffusion_model.forward")

    def forward(x: Tensor, timesteps: Tensor, context: Tensor, *_: Any, **__: Any) -> Tensor:
        return original(x, timesteps, context, transformer_options={})

    patched.add_object_patch("diffusion_model.forward", forward)
    return patched


def own_guider_passes(model: ModelPatcher) -> ModelPatcher:
    """A wrapper of each evaluation that asks the model for both branches itself, out of options of its own."""

    def evaluate(executor: Any, x: Tensor, timestep: Tensor, options: dict[str, Any], _seed: Any = None) -> Tensor:
        guider = executor.class_obj
        conds = [guider.conds["positive"], guider.conds["negative"]]
        cond, uncond = comfy.samplers._calc_cond_batch(guider.inner_model, conds, x, timestep, {})
        return uncond + (cond - uncond) * guider.cfg

    patched = model.clone()
    patched.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "own passes", evaluate)
    return patched


def rows_one_by_one(model: ModelPatcher) -> ModelPatcher:
    """An object patch in place of the network's `forward`, which runs it row by row on the options of all rows."""
    patched = model.clone()
    original = patched.get_model_object("diffusion_model.forward")

    def forward(x: Tensor, timesteps: Tensor, context: Tensor, *_: Any, **kwargs: Any) -> Tensor:
        options = kwargs["transformer_options"]
        rows = zip(x.split(1), timesteps.split(1), context.split(1), strict=True)
        return torch.cat([original(*row, transformer_options=options) for row in rows])

    patched.add_object_patch("diffusion_model.forward", forward)
    return patched


def own_class(source: type, **members: Any) -> type:
    """A class that does what `source` does, and is not derived from it."""
    copied = {name: member for name, member in vars(source).items() if name not in ("__dict__", "__weakref__")}
    return type(f"Own{source.__name__}", (nn.Module,), {**copied, "__module__": __name__, **members})


def derived_class(source: type) -> type:
    """A class derived from `source` that overrides its `forward`."""

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return source.forward(self, *args, **kwargs)

    return type(f"Derived{source.__name__}", (source,), {"__module__": __name__, "forward": forward})


def _needs_level(self: Any, x: Tensor, *args: Any, transformer_options: dict[str, Any], **kwargs: Any) -> Tensor:
    """`forward` of a network that looks up the noise level in the options, as the host's own do not."""
    if not transformer_options["sigmas"].isfinite().all():
        raise ValueError("no noise level")
    result: Tensor = self._forward(x, *args, transformer_options=transformer_options, **kwargs)
    return result


def swapped_classes(model: ModelPatcher, make: Callable[[type], type], is_network_swapped: bool = True) -> ModelPatcher:
    """Puts classes made by `make` in place of those of the network, its blocks and their attentions while it is loaded.

    Object patches on `__class__`, as packs do it that bring networks of their own.
    """
    patched, made = model.clone(), dict[type, type]()
    for name, module in model.model.diffusion_model.named_modules():
        path, is_network = ".".join(filter(None, ("diffusion_model", name, "__class__"))), not name
        kind = model.get_model_object(path)
        if is_network and is_network_swapped and make is own_class:
            made[kind] = own_class(kind, forward=_needs_level)
        if (is_network and is_network_swapped) or hasattr(module, "to_q") or _is_block(module):
            swapped = made.setdefault(kind, make(kind))
            patched.add_object_patch(path, swapped)
    return patched


def _is_block(module: nn.Module) -> bool:
    return hasattr(module, "attn1") or hasattr(module, "cross_attn")
