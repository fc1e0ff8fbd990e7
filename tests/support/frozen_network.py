"""T-GATE written down a second time for networks without attention patches, and without saving anything.

Every attention is computed and every branch is run; forward hooks throw outputs away afterwards where the published
schedule reuses. It counts the sampler's evaluations, so it suits samplers that evaluate each step once.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

COND, UNCOND = 0, 1
Kind = Literal["self", "cross"]
Pairs = list[tuple[torch.nn.Module, torch.nn.Module]]


@dataclass
class FrozenNetwork:
    """One run of the schedule; make a new one for every sampling.

    Attributes:
        gate: first step of the fidelity-improving phase.
        guidance: what guides from then on, see the node's input of that name.
        sp_interval, fi_interval, warm_up: as in the node.
        batch_dim: batch dimension of an attention's output.
        lazily: whether conds may turn up after the gate; they are computed and kept then.
    """

    gate: int
    guidance: str
    sp_interval: int = 1
    fi_interval: int = 1
    warm_up: int = 0
    batch_dim: int = 0
    lazily: bool = False
    _step: int = -1
    _conds: list[Hashable] = field(default_factory=list)
    _kept: dict[Hashable, Tensor] = field(default_factory=dict)
    _difference: Tensor | None = None

    @contextmanager
    def installed(self, model: ModelPatcher, pairs: Pairs) -> Iterator[ModelPatcher]:
        """A clone of `model` that samples by this schedule; `pairs` are self- and cross-attention of each block."""
        clone = model.clone()
        clone.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "frozen", self._next_step)
        clone.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "frozen", self._guide)
        clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "frozen", self._note_conds)
        handles = [
            module.register_forward_hook(lambda module, _args, output, kind=kind: self._freeze(kind, module, output))
            for pair in pairs
            for kind, module in zip(("self", "cross"), pair, strict=True)
        ]
        try:
            yield clone
        finally:
            for handle in handles:
                handle.remove()

    def _next_step(self, executor: Any, *args: Any, **kwargs: Any) -> Tensor:
        self._step += 1
        return executor(*args, **kwargs)

    def _note_conds(self, executor: Any, *args: Any, **kwargs: Any) -> Tensor:
        options = args[5]
        self._conds = list(zip(options["cond_or_uncond"], options["uuids"], strict=True))
        return executor(*args, **kwargs)

    def _reuses(self, kind: Kind) -> bool:
        if self._step >= self.gate:
            return kind == "cross" or self._step % self.fi_interval != 0
        if kind == "cross" or self._step == self.gate - 1:
            return False
        return self._step > self.warm_up and self._step % self.sp_interval != 0

    def _freeze(self, kind: Kind, module: torch.nn.Module, output: Any) -> Any:
        tokens = output[0] if isinstance(output, tuple) else output
        chunks = list(tokens.chunk(len(self._conds), dim=self.batch_dim))
        for index, cond in enumerate(self._conds):
            site = (module, cond)
            if self._reuses(kind) and (site in self._kept or not self.lazily):
                chunks[index] = self._kept[site].clone()
            else:
                self._kept[site] = chunks[index].clone()
        frozen = torch.cat(chunks, dim=self.batch_dim)
        return (frozen, *output[1:]) if isinstance(output, tuple) else frozen

    def _merge(self) -> None:
        """Where one branch goes on with the mean of what both branches kept."""
        for module in {site[0] for site in self._kept}:
            sites = [site for site in self._kept if site[0] is module]
            mean = sum(self._kept[site] for site in sites) / len(sites)
            self._kept.update(dict.fromkeys(sites, mean))

    def _guide(self, executor: Any, *args: Any, **kwargs: Any) -> list[Tensor]:
        is_guided = len(args[1]) == 2 and all(args[1])
        if is_guided and self._step == self.gate and self.guidance in ("uncond", "cond_mean"):
            self._merge()
        predictions = executor(*args, **kwargs)
        if not is_guided:
            return predictions
        cond, uncond = predictions
        sigma = args[3].flatten()[0]
        if self._step < self.gate:
            self._difference = (cond - uncond) / sigma
        elif self.guidance == "uncond":
            return [uncond, uncond]
        elif self.guidance in ("cond", "cond_mean"):
            return [cond, cond]
        elif self.guidance == "cached_delta":
            return [cond, cond - self._difference * sigma]
        return predictions
