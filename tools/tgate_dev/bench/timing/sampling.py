"""One sampling run through the host's sampler: the time of each step, and the most memory held at once."""

from __future__ import annotations

import time
import warnings
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import comfy.sample
import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .results import RunRecord

_KEY = "tgate_dev_bench"
# Where the pack keeps a run's state in transformer_options.
_RUN_KEY = "tgate_run"
# Euler evaluates the model once a step.
SAMPLER, SCHEDULER, CFG = "euler", "normal", 7.0


class Task(NamedTuple):
    """What every run samples: noise (B, C, …) on a device, with the host's conditionings."""

    device: torch.device
    noise: Tensor
    positive: list[list[Any]]
    negative: list[list[Any]]


class _Watcher:
    """Follows one run: the times of its steps, the branches evaluated, and T-GATE's state."""

    def __init__(self, task: Task) -> None:
        self._device, self._batch = task.device, len(task.noise)
        self._marks: list[tuple[Any, Any]] = []
        self.record = RunRecord()
        self.tgate: Any = None

    def time_step(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """PREDICT_NOISE wrapper: the model time of one step, guidance included."""
        self.record.branches.append(0.0)
        if self._device.type == "cuda":
            # What another network still has to do there is not of this step.
            torch.cuda.synchronize(self._device)
        start = self._mark()
        result = executor(*args, **kwargs)
        self._marks.append((start, self._mark()))
        return result

    def note_call(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """APPLY_MODEL wrapper. Positional: x, t, c_concat, c_crossattn, control, transformer_options."""
        self.record.branches[-1] += len(args[0]) / self._batch
        self.tgate = args[5].get(_RUN_KEY, self.tgate)
        return executor(*args, **kwargs)

    def finished(self) -> RunRecord:
        """The record, with the time of each step by the device's own clock."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            self.record.step_seconds = [start.elapsed_time(end) / 1000 for start, end in self._marks]
        else:
            self.record.step_seconds = [end - start for start, end in self._marks]
        return self.record

    def _mark(self) -> Any:
        if self._device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch gives it no types
        event.record()
        return event


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
    """Sample a model over noise levels, see `sigmas`; at cfg 1 without the negative branch.

    `after_step` is called with the number of each finished step; its time is not counted, and it may sample other
    networks.
    """
    watcher = _Watcher(task)
    patcher = patcher.clone()
    options = patcher.model_options
    # In model_options, outside T-GATE's own wrappers, which hide its state from the calls that it leaves alone.
    add_wrapper_with_key(WrappersMP.APPLY_MODEL, _KEY, watcher.note_call, options, is_model_options=True)
    add_wrapper_with_key(WrappersMP.PREDICT_NOISE, _KEY, watcher.time_step, options, is_model_options=True)
    sampler, empty = comfy.samplers.sampler_object(SAMPLER), torch.zeros_like(task.noise)
    given = (patcher, task.noise, cfg, sampler, schedule, task.positive, task.negative, empty)
    callback = after_step and (lambda step, *_: after_step(step))
    result = comfy.sample.sample_custom(*given, callback=callback, disable_pbar=True, seed=0)
    record = watcher.finished()
    if watcher.tgate is not None:
        counts = watcher.tgate.counts
        reused = [counts.by_step[step].reused_share for step in range(counts.steps)]
        record.reused = [sorted(kind for kind, share in shares.items() if share) for shares in reused]
        record.cache_bytes = counts.peak_cache_bytes
        record.notes += counts.notes
    if not torch.isfinite(result).all():
        record.notes.append("the result holds infinities or NaN")
    return record


def with_peak(device: torch.device, run: Callable[..., Any], *args: Any) -> tuple[Any, int]:
    """The result of a run, and the peak of what it allocates in bytes; on the CPU, counting slows the run down."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return run(*args), torch.cuda.max_memory_allocated(device) - before
    # Of what torch first meets while operations are watched, it would compile nothing later.
    with torch.compiler.set_stance("force_eager"), PeakBytes() as counted:
        return run(*args), counted.peak


def count_syncs(device: torch.device, run: Callable[..., Any], *args: Any) -> int | None:
    """How often a second run makes the processor wait for the card, as torch warns of it; None on the CPU."""
    if device.type != "cuda":
        return None
    # The first one may compile and choose kernels, and waits for that.
    run(*args)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run(*args)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(warning.message) for warning in caught)


class PeakBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch gives it no types
    """Counts live bytes allocated by operations, and their peak: the CPU allocator keeps no statistics."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._watched: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs the operation; new storage is counted until it is freed."""
        given = _storages((args, kwargs))
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result) - given:
            if storage not in self._watched and storage.device.type != "meta":
                self._watched.add(storage)
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._let_go, storage.nbytes())
        return result

    def _let_go(self, size: int) -> None:
        self.now -= size


def _storages(values: Any) -> set[Any]:
    return {leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)}
