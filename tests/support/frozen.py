"""T-GATE written down without saving anything: an oracle for what a gated run has to give.

Every attention is computed and every branch is run; outputs are thrown away afterwards where the published schedule
reuses. It sits behind all other nodes, in the host's public hooks, and knows one thing of them: the calls that hold
both branches are the main ones.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

COND, UNCOND = 0, 1


@dataclass
class FrozenAttention:
    """One run of the schedule; make a new one for every sampling.

    Attributes:
        gate: first step of the fidelity-improving phase.
        guidance: what guides from then on, see the node's input of that name.
        sp_interval, fi_interval, warm_up, self_attention: as in the node.
    """

    gate: int
    guidance: str
    sp_interval: int = 1
    fi_interval: int = 1
    warm_up: int = 0
    self_attention: bool = True
    _kept: dict[Hashable, tuple[int, Tensor]] = field(default_factory=dict)
    _differences: dict[Hashable, Tensor] = field(default_factory=dict)

    def install(self, model: ModelPatcher) -> ModelPatcher:
        """A clone of `model` whose attentions are frozen by the schedule, whatever its other nodes made of them."""
        patched = model.clone()
        patched.set_model_attn1_output_patch(lambda n, options: self._freeze("attn1", n, options))
        patched.set_model_attn2_output_patch(lambda n, options: self._freeze("attn2", n, options))
        patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "frozen", self._guide)
        return patched

    def _reuses(self, kind: str, step: int) -> bool:
        if kind == "attn2":
            return step >= self.gate
        if not self.self_attention:
            return False
        if step >= self.gate:
            return step % self.fi_interval != 0
        return self.warm_up < step < self.gate - 1 and step % self.sp_interval != 0

    def _freeze(self, kind: str, n: Tensor, options: dict[str, Any]) -> Tensor:
        if len(options["cond_or_uncond"]) != 2:
            return n
        step = _step(options, options["sigmas"])
        site = (_window(options), kind, options["block"], options["block_index"])
        captured_at, kept = self._kept.get(site, (step, n))
        if not self._reuses(kind, step) or kept.shape != n.shape or site not in self._kept:
            self._kept[site] = (step, n.clone())
            return n
        if self.guidance == "uncond" and captured_at < self.gate <= step:
            return torch.stack(kept.chunk(2)).mean(dim=0).repeat(2, 1, 1)
        return kept.clone()

    def _guide(self, executor: Any, *args: Any, **kwargs: Any) -> list[Tensor]:
        predictions = executor(*args, **kwargs)
        _, conds, _, timestep, model_options = args[:5]
        if len(conds) != 2 or None in conds:
            return predictions
        options = model_options["transformer_options"]
        step, sigma, window = _step(options, timestep), timestep.flatten()[0], _window(options)
        cond, uncond = predictions
        if step < self.gate:
            self._differences[window] = (cond - uncond) / sigma
        elif self.guidance == "uncond":
            return [uncond, uncond]
        elif self.guidance == "cond":
            return [cond, cond]
        elif self.guidance == "cached_delta":
            return [cond, cond - self._differences[window] * sigma]
        return predictions


def _step(options: dict[str, Any], sigma: Tensor) -> int:
    return int((options["sample_sigmas"] - sigma.flatten()[0]).abs().argmin())


def _window(options: dict[str, Any]) -> Hashable:
    window = options.get("context_window")
    return None if window is None else tuple(window.index_list)
