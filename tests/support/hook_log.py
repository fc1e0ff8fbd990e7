"""Test-only nodes that hook everything there is to hook, change nothing, and log each call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.samplers
from comfy.ldm.modules.attention import optimized_attention
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

WRAPPERS = (WrappersMP.CALC_COND_BATCH, WrappersMP.APPLY_MODEL, WrappersMP.DIFFUSION_MODEL)


@dataclass(frozen=True)
class Event:
    """A hook that was called: whose, which, and in which step."""

    node: str
    hook: str
    step: int


class HookLog:
    """The calls of all logging nodes of one graph, in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._step = 0

    def shared_hooks(self, model: ModelPatcher, node: str) -> ModelPatcher:
        """A clone with a node on every hook that several nodes may share."""
        patched = model.clone()
        for kind in ("attn1", "attn2"):
            getattr(patched, f"set_model_{kind}_patch")(self._patch(node, f"{kind}_patch"))
            getattr(patched, f"set_model_{kind}_output_patch")(self._patch(node, f"{kind}_output_patch"))
        patched.set_model_patch(self._patch(node, "middle_patch"), "middle_patch")
        patched.set_model_input_block_patch(self._patch(node, "input_block_patch"))
        patched.set_model_output_block_patch(self._patch(node, "output_block_patch"))
        patched.set_model_sampler_pre_cfg_function(self._on_guidance(node, "pre_cfg", "conds_out"))
        patched.set_model_sampler_post_cfg_function(self._on_guidance(node, "post_cfg", "denoised"))
        patched.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, node, self._on_evaluation(node))
        for kind in WRAPPERS:
            patched.add_wrapper_with_key(kind, node, self._wrapper(node, kind))
        return patched

    def single_hooks(self, model: ModelPatcher, node: str) -> ModelPatcher:
        """A clone with a node on every hook that only one can hold: sampler functions, unet wrapper, replacements."""
        patched = model.clone()
        patched.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, node, self._on_evaluation(node))
        patched.set_model_sampler_calc_cond_batch_function(self._calculate(node))
        patched.set_model_unet_function_wrapper(self._wrap_unet(node))
        patched.set_model_sampler_cfg_function(self._guide(node))
        patched.set_model_attn1_replace(self._replacement(node, "attn1_replace"), "middle", 0)
        patched.set_model_attn2_replace(self._replacement(node, "attn2_replace"), "middle", 0, transformer_index=0)
        return patched

    def _add(self, node: str, hook: str) -> None:
        self.events.append(Event(node, hook, self._step))

    def _on_evaluation(self, node: str) -> Callable[..., Any]:
        def logged(executor: Any, *args: Any, **kwargs: Any) -> Any:
            sigmas = args[2]["transformer_options"]["sample_sigmas"]
            self._step = int((sigmas - args[1].flatten()[0]).abs().argmin())
            self._add(node, WrappersMP.PREDICT_NOISE)
            return executor(*args, **kwargs)

        return logged

    def _wrapper(self, node: str, hook: str) -> Callable[..., Any]:
        def logged(executor: Any, *args: Any, **kwargs: Any) -> Any:
            self._add(node, hook)
            return executor(*args, **kwargs)

        return logged

    def _patch(self, node: str, hook: str) -> Callable[..., Any]:
        def logged(*args: Any) -> Any:
            self._add(node, hook)
            *values, _ = args
            return values[0] if len(values) == 1 else tuple(values)

        return logged

    def _on_guidance(self, node: str, hook: str, result: str) -> Callable[[dict[str, Any]], Any]:
        def logged(args: dict[str, Any]) -> Any:
            self._add(node, hook)
            return args[result]

        return logged

    def _calculate(self, node: str) -> Callable[[dict[str, Any]], list[Tensor]]:
        def logged(args: dict[str, Any]) -> list[Tensor]:
            self._add(node, "calc_cond_batch")
            return comfy.samplers.calc_cond_batch(
                args["model"], args["conds"], args["input"], args["sigma"], args["model_options"]
            )

        return logged

    def _wrap_unet(self, node: str) -> Callable[..., Tensor]:
        def logged(apply_model: Callable[..., Tensor], args: dict[str, Any]) -> Tensor:
            self._add(node, "unet_wrapper")
            if len(args["input"]) % len(args["cond_or_uncond"]) or len(args["input"]) != len(args["timestep"]):
                raise RuntimeError("the batch does not fit its branches")
            return apply_model(args["input"], args["timestep"], **args["c"])

        return logged

    def _guide(self, node: str) -> Callable[[dict[str, Any]], Tensor]:
        def logged(args: dict[str, Any]) -> Tensor:
            self._add(node, "cfg")
            return args["uncond"] + (args["cond"] - args["uncond"]) * args["cond_scale"]

        return logged

    def _replacement(self, node: str, hook: str) -> Callable[..., Tensor]:
        def logged(q: Tensor, k: Tensor, v: Tensor, extra_options: dict[str, Any]) -> Tensor:
            self._add(node, hook)
            return optimized_attention(q, k, v, extra_options["n_heads"])

        return logged
