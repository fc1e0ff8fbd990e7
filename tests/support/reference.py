"""T-GATE written a second time, straight from the method's table and without the pack: an oracle for its results.

It counts the sampler's evaluations, so it suits samplers that evaluate each step once; it knows cross-attention only
(`sp_interval` and `fi_interval` of 1), no tiles, no windows, and conds that stay the same from the gate on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_patcher
import torch
from comfy.patcher_extension import WrappersMP
from tiny import blocks

COND, UNCOND = 0, 1


class ReferenceGate:
    """State of one reference run: what each cross-attention gave to each cond in the last step before the gate."""

    def __init__(self, gate: int, guidance: str) -> None:
        self.gate = gate
        self.guidance = guidance
        self.step = -1
        self.kept: dict[Any, torch.Tensor] = {}
        self.difference: torch.Tensor | None = None

    def next_step(self, executor: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """PREDICT_NOISE wrapper: one evaluation is one step."""
        self.step += 1
        if self.step == self.gate - 1:
            self.kept.clear()
        return executor(*args, **kwargs)

    def evaluate(self, executor: Any, *args: Any, **kwargs: Any) -> list[torch.Tensor]:
        """CALC_COND_BATCH wrapper: guidance until the gate, one branch after."""
        model, conds, x, sigma, options = args
        is_guided = len(conds) == 2 and all(conds)
        if self.step < self.gate or self.guidance == "keep" or not is_guided:
            predictions = executor(*args, **kwargs)
            if is_guided:
                self.difference = (predictions[COND] - predictions[UNCOND]) / sigma.view(-1, *[1] * (x.ndim - 1))
            return predictions
        survivor = UNCOND if self.guidance == "uncond" else COND
        alone = [cond if branch == survivor else None for branch, cond in enumerate(conds)]
        prediction = executor(model, alone, x, sigma, options)[survivor]
        if self.guidance != "cached_delta":
            return [prediction, prediction]
        return [prediction, prediction - self.difference * sigma.view(-1, *[1] * (x.ndim - 1))]

    def attention_hook(self, module: torch.nn.Module, _args: Any, kwargs: Any, output: torch.Tensor) -> torch.Tensor:
        """Forward hook of a cross-attention: keeps its output before the gate, replaces it after."""
        options = kwargs["transformer_options"]
        conds = list(zip(options["cond_or_uncond"], options["uuids"], strict=True))
        chunks = list(output.chunk(len(conds)))
        for index, (branch, uuid) in enumerate(conds):
            if self.step >= self.gate:
                chunks[index] = self._after_the_gate(module, branch, uuid, chunks[index])
            self.kept[module, branch, uuid] = chunks[index]
        return torch.cat(chunks)

    def _after_the_gate(self, module: Any, branch: int, uuid: Any, computed: torch.Tensor) -> torch.Tensor:
        if self.guidance != "uncond":
            return self.kept.get((module, branch, uuid), computed)
        if (module, "mean") not in self.kept:
            outputs = [kept for key, kept in self.kept.items() if key[0] is module]
            assert len(outputs) == 2, "the mean is defined for one cond and one uncond"
            self.kept[module, "mean"] = sum(outputs) / 2
        return self.kept[module, "mean"]


@contextmanager
def reference(
    model: comfy.model_patcher.ModelPatcher, gate: int, guidance: str = "uncond"
) -> Iterator[comfy.model_patcher.ModelPatcher]:
    """A clone of `model` that samples by the reference, for one run.

    Args:
        model: a model without TGATE.
        gate: first step of the fidelity-improving phase.
        guidance: what remains of guidance from the gate on; "keep" where the branch rule demands it.
    """
    state = ReferenceGate(gate, guidance)
    clone = model.clone()
    clone.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "reference", state.next_step)
    clone.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "reference", state.evaluate)
    modules = [block.attn2 for block in blocks(model)]
    modules += [block.attn1 for block in blocks(model) if block.disable_self_attn]  # it is given the text as well
    handles = [module.register_forward_hook(state.attention_hook, with_kwargs=True) for module in modules]
    try:
        yield clone
    finally:
        for handle in handles:
            handle.remove()


def relative_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest difference of two latents in units of their spread."""
    return float((one - other).abs().max() / other.std())
