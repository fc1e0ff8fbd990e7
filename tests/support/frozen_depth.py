"""DeepCache, alone or with T-GATE, written down a second time and without saving anything: an oracle for its results.

Every block is run in every step, for all branches. What enters the first shallow output block is overwritten in shallow
steps; the deep blocks' attentions are looked at in full steps alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from frozen import FrozenAttention, _step, _window
from torch import Tensor

NO_GATE = 10**6


@dataclass
class FrozenDepth(FrozenAttention):
    """One run of the schedule; make a new one for every sampling.

    Attributes:
        interval, branch: as in the node.
        first, last: steps between which DeepCache is on.
        pairs_only: whether calls of a single cond are other nodes' own, and to be left alone.
    """

    gate: int = NO_GATE
    guidance: str = "keep"
    interval: int = 3
    branch: int = 0
    first: int = 0
    last: int = NO_GATE
    pairs_only: bool = False
    _seen: Counter[Hashable] = field(default_factory=Counter)
    _features: dict[Hashable, Tensor] = field(default_factory=dict)
    _blocks: int = 0

    def install(self, model: ModelPatcher) -> ModelPatcher:
        """A clone of `model`; apply other nodes to what this returns, whose patches at the cut are then behind ours."""
        self._blocks = len(model.model.diffusion_model.output_blocks)
        patched = model.clone() if self.gate == NO_GATE else super().install(model)
        patched.set_model_output_block_patch(self._overwrite)
        return patched

    def is_full(self, step: int) -> bool:
        """Whether all blocks count in a step."""
        if not self.first <= step < self.last:
            return True
        return (step - self.first) % self.interval == 0 or step == self.gate - 1

    def _reuses(self, kind: str, step: int) -> bool:
        since = step
        while self.is_full(step) and since > 0 and not self.is_full(since - 1):
            since -= 1  # what was due in the shallow steps before is captured now
        return all(super(FrozenDepth, self)._reuses(kind, earlier) for earlier in range(since, step + 1))

    def _freeze(self, kind: str, n: Tensor, options: dict[str, Any]) -> Tensor:
        side, index = options["block"]
        is_shallow_block = {"input": index <= self.branch + 1, "output": index >= self._cut}.get(side, False)
        if is_shallow_block or self.is_full(_step(options, options["sigmas"])):
            return super()._freeze(kind, n, options)
        return n

    @property
    def _cut(self) -> int:
        return self._blocks - 2 - self.branch

    def _overwrite(self, h: Tensor, skip: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
        if options["block"] != ("output", self._cut):
            return h, skip
        conds = list(zip(options["cond_or_uncond"], options["uuids"], strict=True))
        if self.pairs_only and len(conds) == 1:
            return h, skip
        step = _step(options, options["sigmas"])
        is_full = self.is_full(step)
        chunks = list(h.chunk(len(conds)))
        for index, cond in enumerate(conds):
            key = (_window(options), cond, chunks[index].shape)
            self._seen[step, key] += 1
            key = (*key, self._seen[step, key])
            if is_full or key not in self._features:
                self._features[key] = chunks[index].clone()
            chunks[index] = self._features[key].clone()
        return torch.cat(chunks), skip
