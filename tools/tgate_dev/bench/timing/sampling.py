"""One sampling run through the host's sampler, timed step by step."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import comfy.sample
import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import Tensor

from ..pack import RUN_KEY, reused_kinds
from .records import RunRecord

KEY = "tgate_dev_bench"
SAMPLER, SCHEDULER, CFG = "euler", "normal", 7.0


class Task(NamedTuple):
    """What every run samples: noise (1, C, H, W) on a device, with the host's conditionings."""

    device: torch.device
    noise: Tensor
    positive: list[list[Any]]
    negative: list[list[Any]]


class _Watcher:
    """Follows one run: the times of its steps, the branches evaluated, and T-GATE's state."""

    def __init__(self, device: torch.device, steps: int, after_step: Callable[[int], None] | None) -> None:
        self._device, self._after_step = device, after_step
        self._marks: list[Any] = []
        self._step = 0
        self.branches = [0.0] * steps
        self.tgate: Any = None

    def time_step(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """PREDICT_NOISE wrapper: the model time of one step, guidance included."""
        self._mark()
        result = executor(*args, **kwargs)
        self._mark()
        return result

    def begin_call(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """APPLY_MODEL wrapper. Positional: x, t, c_concat, c_crossattn, control, transformer_options."""
        self.branches[self._step] += args[0].shape[0]
        self.tgate = args[5].get(RUN_KEY, self.tgate)
        return executor(*args, **kwargs)

    def end_step(self, step: int, *_: Any) -> None:
        """The host's callback of a step."""
        self._step = min(step + 1, len(self.branches) - 1)
        if self._after_step is not None:
            self._after_step(step)

    def step_seconds(self) -> list[float]:
        """Seconds of each step; synchronises the device."""
        steps = list(zip(self._marks[::2], self._marks[1::2], strict=True))
        if self._device.type != "cuda":
            return [end - begin for begin, end in steps]
        torch.cuda.synchronize(self._device)
        return [begin.elapsed_time(end) / 1000 for begin, end in steps]

    def _mark(self) -> None:
        if self._device.type != "cuda":
            self._marks.append(time.perf_counter())
            return
        # An event in the device's queue: synchronising at each step would slow the run.
        make_event: Any = torch.cuda.Event  # torch gives it no types
        self._marks.append(make_event(enable_timing=True))
        self._marks[-1].record()


def sigmas(patcher: ModelPatcher, steps: int) -> Tensor:
    """Noise levels of a run, (steps + 1,)."""
    schedule: Tensor = comfy.samplers.calculate_sigmas(patcher.get_model_object("model_sampling"), SCHEDULER, steps)
    return schedule


def timed_run(
    patcher: ModelPatcher,
    task: Task,
    schedule: Tensor,
    cfg: float = CFG,
    after_step: Callable[[int], None] | None = None,
) -> RunRecord:
    """Sample once.

    Args:
        patcher: the model, as a sampler node gets it.
        task: what is sampled.
        schedule: noise levels, see `sigmas`.
        cfg: guidance scale; 1 drops the negative branch.
        after_step: called with the number of each finished step; its time is not counted, and it may sample other
            networks.
    """
    watcher = _Watcher(task.device, len(schedule) - 1, after_step)
    patcher = patcher.clone()
    options = patcher.model_options
    # In model_options, outside T-GATE's own wrappers, which hide its state from the calls that it leaves alone.
    add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, watcher.begin_call, options, is_model_options=True)
    add_wrapper_with_key(WrappersMP.PREDICT_NOISE, KEY, watcher.time_step, options, is_model_options=True)
    sampler, empty = comfy.samplers.sampler_object(SAMPLER), torch.zeros_like(task.noise)
    given = (patcher, task.noise, cfg, sampler, schedule, task.positive, task.negative, empty)
    result = comfy.sample.sample_custom(*given, callback=watcher.end_step, disable_pbar=True, seed=0)
    record = RunRecord(watcher.step_seconds(), watcher.branches)
    if watcher.tgate is not None:
        counts = watcher.tgate.counts
        record.reused, record.cache_bytes = reused_kinds(watcher.tgate), counts.peak_cache_bytes
        record.notes += counts.notes
    if not torch.isfinite(result).all():
        record.notes.append("the result holds infinities or NaN")
    return record
