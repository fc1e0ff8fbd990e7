"""Reference implementation of T-GATE (arXiv 2404.02747, versions 1 and 2) and DeepCache (arXiv 2312.00858).

`Schedule` is the method, `_Run` carries it out; both are independent of the pack, whose results are compared with them.
All attentions and blocks are computed in every step, and their outputs are replaced where the method reuses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from tiny import blocks
from torch import Tensor, nn

Kind = Literal["self", "cross"]
COND, UNCOND = 0, 1
NEVER = 10**6


@dataclass(frozen=True)
class Schedule:
    """What each step of a run does; steps count from 0.

    Attributes:
        gate: first step of the fidelity phase.
        guidance: guidance mode of the fidelity phase, as in the node.
        sp_interval: the planning phase computes self-attention every N steps, and reuses it in between.
        fi_interval: the same for the fidelity phase.
        warm_up: self-attention is always computed before this step.
        refreshed: steps of the fidelity phase that run and are guided like the last one before the gate.
        interval: DeepCache runs all blocks every N steps, and only the outer ones in between.
        branch: number of further outer blocks on each side that run in those shallow steps.
        first, last: DeepCache is active from step `first` to before step `last`.
        full_steps: steps that run all blocks, instead of those given by `interval`.
    """

    gate: int = NEVER
    guidance: str = "uncond"
    sp_interval: int = 1
    fi_interval: int = 1
    warm_up: int = 0
    refreshed: Collection[int] = ()
    interval: int = 1
    branch: int = 0
    first: int = 0
    last: int = NEVER
    full_steps: Collection[int] | None = None

    def reuses(self, kind: Kind, step: int) -> bool:
        """Whether the step reuses attentions of this kind, instead of computing and capturing them."""
        if step in self.refreshed:
            return False
        if step >= self.gate:
            return kind == "cross" or step % self.fi_interval != 0
        return kind == "self" and self.warm_up < step < self.gate - 1 and step % self.sp_interval != 0

    def counts_since(self, kind: Kind, step: int) -> int:
        """The step from which captures count: those of cross-attention are all made anew in refreshed steps."""
        if kind == "self":
            return 0
        return max(self.gate - 1, *(refreshed for refreshed in self.refreshed if refreshed <= step), 0)

    def is_guided(self, step: int) -> bool:
        """Whether all branches run."""
        return step < self.gate or step in self.refreshed or self.guidance == "keep"

    def is_full(self, step: int) -> bool:
        """Whether the step runs all blocks; the last one before the gate always does, for its captures."""
        if self.full_steps is not None:
            return step in self.full_steps
        is_due = (step - self.first) % self.interval == 0 or step == self.gate - 1 or step in self.refreshed
        return is_due or not self.first <= step < self.last

    def reuses_beside_deep_cache(self, kind: Kind, step: int) -> bool:
        """`reuses`, except that a full step also makes the captures that were due in the shallow steps before it."""
        due = step
        while self.is_full(step) and due > 0 and not self.is_full(due - 1):
            due -= 1
        return all(self.reuses(kind, each) for each in range(due, step + 1))


class _Run:
    """State of one sampling run, for samplers that evaluate each step once."""

    def __init__(self, schedule: Schedule, deep: Collection[nn.Module], cut: int, batch_dim: int) -> None:
        self.schedule, self.deep, self.cut, self.batch_dim = schedule, deep, cut, batch_dim
        self.step = -1
        self.window: Hashable = None
        self.conds: list[Hashable] = []
        self.is_main = False
        self.visits: Counter[Hashable] = Counter()
        # By place and cond: step of the capture, and the capture.
        self.captures: dict[Hashable, dict[Hashable, tuple[int, Tensor]]] = {}
        self.differences: dict[Hashable, Tensor] = {}

    def next_step(self, executor: Any, *args: Any, **kwargs: Any) -> Tensor:
        """PREDICT_NOISE wrapper."""
        self.step += 1
        self.visits.clear()
        return executor(*args, **kwargs)

    def evaluate(self, executor: Any, model: Any, conds: Any, x: Tensor, sigma: Tensor, options: Any) -> list[Tensor]:
        """CALC_COND_BATCH wrapper. Only the first evaluation of a step (and window) is gated; others are auxiliary."""
        window = options["transformer_options"].get("context_window")
        self.window = None if window is None else tuple(window.index_list)
        self.visits[self.window] += 1
        self.is_main = self.visits[self.window] == 1

        def predict(conds: Any) -> list[Tensor]:
            return executor(model, conds, x, sigma, options)

        try:
            return self._guide(predict, conds, sigma.flatten()[0]) if self.is_main else predict(conds)
        finally:
            self.is_main = False

    def _guide(self, predict: Any, conds: Any, sigma: Tensor) -> list[Tensor]:
        """Predictions of both branches; in the fidelity phase one branch runs and stands for both."""
        guidance, is_guided = self.schedule.guidance, len(conds) == 2 and all(conds)
        if not is_guided or self.schedule.is_guided(self.step):
            predictions = predict(conds)
            if is_guided:
                self.differences[self.window] = (predictions[COND] - predictions[UNCOND]) / sigma
            return predictions
        left = UNCOND if guidance == "uncond" else COND
        prediction = predict([cond if branch == left else None for branch, cond in enumerate(conds)])[left]
        if guidance == "cached_delta":
            return [prediction, prediction - self.differences[self.window] * sigma]
        return [prediction, prediction]

    def call(self, executor: Any, *args: Any, **kwargs: Any) -> Tensor:
        """APPLY_MODEL wrapper; args[5] is the host's transformer_options."""
        self.conds = list(zip(args[5]["cond_or_uncond"], args[5]["uuids"], strict=True))
        return executor(*args, **kwargs)

    def attend(self, kind: Kind, module: nn.Module, _inputs: Any, output: Any) -> Any:
        """Forward hook of an attention: captures or replaces its output."""
        if not self.is_main or (module in self.deep and not self.schedule.is_full(self.step)):
            return output
        tokens, *others = output if isinstance(output, tuple) else (output,)
        reuses = self.schedule.reuses_beside_deep_cache(kind, self.step)
        merges = self.step >= self.schedule.gate and self.schedule.guidance in ("uncond", "cond_mean")
        since = self.schedule.counts_since(kind, self.step)
        tokens = self._replace(module, tokens, reuses, merges, self.batch_dim, since)
        return (tokens, *others) if isinstance(output, tuple) else tokens

    def attend_inline(self, width: int, layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Forward pre-hook of the layer behind an attention that is no module; its input begins with the output."""
        attended = self.attend("self", layer, None, inputs[0][..., :width])
        return torch.cat([attended, inputs[0][..., width:]], -1), *inputs[1:]

    def enter(self, h: Tensor, skip: Tensor, options: Any) -> tuple[Tensor, Tensor]:
        """Output block patch: in shallow steps, the outer blocks continue from the last output of the deep ones."""
        if not self.is_main or options["block"] != ("output", self.cut):
            return h, skip
        return self._replace("deep blocks", h, reuses=not self.schedule.is_full(self.step)), skip

    def _replace(
        self, site: Hashable, output: Tensor, reuses: bool, merges: bool = False, dim: int = 0, since: int = 0
    ) -> Tensor:
        """The output of a site, per cond in the batch: reused, or captured if it is not to be or cannot be reused.

        What was captured before step `since` counts for nothing.
        """
        chunks = list(output.chunk(len(self.conds), dim))
        for index, cond in enumerate(self.conds):
            place = self.window, site, chunks[index].shape
            self.visits[place, cond] += 1
            captures = self.captures.setdefault((place, self.visits[place, cond]), {})
            for owner in [owner for owner, (step, _) in captures.items() if step < since]:
                del captures[owner]
            if reuses and (cond in captures or (merges and captures)):
                chunks[index] = _mean_of_latest(captures) if merges else captures[cond][1].clone()
            else:
                captures[cond] = self.step, chunks[index].clone()
        return torch.cat(chunks, dim)


def _mean_of_latest(captures: dict[Hashable, tuple[int, Tensor]]) -> Tensor:
    """Mean of both branches in the last planning step; later, the capture of the remaining branch."""
    last = max(step for step, _ in captures.values())
    latest = [capture for step, capture in captures.values() if step == last]
    return sum(latest[1:], latest[0]) / len(latest)


def reference(
    model: ModelPatcher,
    gate: int = NEVER,
    guidance: str = "uncond",
    pairs: Collection[tuple[nn.Module, nn.Module]] = (),
    batch_dim: int = 0,
    inline: Mapping[nn.Module, int] | None = None,
    **settings: Any,
) -> ModelPatcher:
    """A clone of `model` that samples by the reference, each run from nothing.

    Args:
        model: a model without TGATE.
        gate, guidance, settings: see `Schedule`; guidance is "keep" where both branches must run.
        pairs: self- and cross-attention of each block; not needed for UNets.
        batch_dim: batch dimension of an attention's output.
        inline: the layers behind self-attentions that are no modules, and how many channels those put out.
    """
    schedule, network = Schedule(gate, guidance, **settings), model.model.diffusion_model
    sites = [site for pair in pairs for site in zip(("self", "cross"), pair, strict=True)] or _unet_sites(model)
    cut, inner = -1, ()
    if not pairs:
        cut = len(network.output_blocks) - 2 - schedule.branch
        inner = (*network.input_blocks[schedule.branch + 2 :], network.middle_block, *network.output_blocks[:cut])
    deep = {layer for block in inner if block is not None for layer in block.modules()}

    def sample(executor: Any, *args: Any, **kwargs: Any) -> Tensor:
        """OUTER_SAMPLE wrapper; these options belong to the run."""
        run, options = _Run(schedule, deep, cut, batch_dim), executor.class_obj.model_options
        add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "reference", run.next_step, options, is_model_options=True)
        add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "reference", run.evaluate, options, is_model_options=True)
        add_wrapper_with_key(WrappersMP.APPLY_MODEL, "reference", run.call, options, is_model_options=True)
        patches = options["transformer_options"].setdefault("patches", {})
        patches.setdefault("output_block_patch", []).insert(0, run.enter)  # before those of other nodes
        hooks = [module.register_forward_hook(partial(run.attend, kind)) for kind, module in sites]
        for layer, width in (inline or {}).items():
            hooks.append(layer.register_forward_pre_hook(partial(run.attend_inline, width)))
        try:
            return executor(*args, **kwargs)
        finally:
            for hook in hooks:
                hook.remove()

    clone = model.clone()
    clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "reference", sample)
    return clone


def _unet_sites(model: ModelPatcher) -> list[tuple[Kind, nn.Module]]:
    """The attentions' output projections, which run whatever nodes replace before them; some attn1 read the text."""
    return [
        (kind, attention.to_out)
        for block in blocks(model)
        for kind, attention in (("cross" if block.disable_self_attn else "self", block.attn1), ("cross", block.attn2))
    ]
