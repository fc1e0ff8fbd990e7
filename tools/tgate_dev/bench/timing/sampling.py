"""One sampling run through the host's sampler, timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import comfy.sample
import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import Tensor, nn

from .clock import StepClock, wait_for
from .records import RunRecord

KEY = "tgate_dev_bench"
RUN_KEY = "tgate_run"  # where T-GATE keeps a run's state in transformer_options
SAMPLER = "euler"
SCHEDULER = "normal"
REUSE = "REUSE"  # the name of the pack's action


@dataclass(frozen=True)
class Task:
    """What every run of a measurement has in common.

    Attributes:
        device: where it runs.
        noise: (B, C, H, W).
        positive: the host's conditioning.
        negative: the other one.
        cfg: guidance scale.
    """

    device: torch.device
    noise: Tensor = field(repr=False)
    positive: list[list[Any]] = field(repr=False)
    negative: list[list[Any]] = field(repr=False)
    cfg: float


class _Watcher:
    """Follows one run: how long its steps take, how many branches the network is called with, and T-GATE's run."""

    def __init__(self, task: Task, steps: int, after_step: Callable[[int], None] | None) -> None:
        self.clock = StepClock(task.device)
        self._after_step = after_step
        self.branches = [0.0] * steps
        self.tgate: Any = None
        self._batch = task.noise.shape[0]
        self._step = 0

    def time_step(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """The host's wrapper of all that a step asks of the model, guidance included."""
        self.clock.mark()
        result = executor(*args, **kwargs)
        self.clock.mark()
        return result

    def end_step(self, *_: Any) -> None:
        """The host's callback of a step."""
        ended = self._step
        self._step += 1
        if self._after_step is not None:
            self._after_step(ended)

    def begin_call(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        """The host's wrapper of a network call. Positional: x, t, c_concat, c_crossattn, control, options."""
        self.tgate = args[5].get(RUN_KEY, self.tgate)
        return executor(*args, **kwargs)

    def count_branches(self, _layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """A hook on the network's first layer: nodes that skip the network skip it too."""
        self.branches[min(self._step, len(self.branches) - 1)] += inputs[0].shape[0] / self._batch


def sigmas(patcher: ModelPatcher, steps: int) -> Tensor:
    """Noise levels of a run, steps + 1 of them."""
    schedule: Tensor = comfy.samplers.calculate_sigmas(patcher.get_model_object("model_sampling"), SCHEDULER, steps)
    return schedule


def timed_run(
    patcher: ModelPatcher,
    task: Task,
    schedule: Tensor,
    cfg: float | None = None,
    after_step: Callable[[int], None] | None = None,
) -> RunRecord:
    """Sample once.

    Args:
        patcher: the model, as a sampler node gets it.
        task: what is sampled.
        schedule: noise levels, one more than steps, see `sigmas`.
        cfg: guidance scale, the task's when None; 1 leaves the second branch out.
        after_step: called with the number of each step once it has ended; the time that it takes is not the run's. It
            may sample other networks.
    """
    watcher = _Watcher(task, len(schedule) - 1, after_step)
    watched = patcher.clone()
    # In the options, for on the patcher it would stand behind T-GATE's, which hides its run from calls it leaves alone.
    add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, watcher.begin_call, watched.model_options, is_model_options=True)
    add_wrapper_with_key(WrappersMP.PREDICT_NOISE, KEY, watcher.time_step, watched.model_options, is_model_options=True)
    with _counting(watched.model.diffusion_model, watcher):
        held_before = _reset_peak(task.device)
        wait_for(task.device)
        result = _sample(watched, task, schedule, task.cfg if cfg is None else cfg, watcher)
        wait_for(task.device)
    record = _record(watcher, bool(torch.isfinite(result).all()))
    if task.device.type == "cuda" and after_step is None:
        record.peak_bytes = torch.cuda.max_memory_allocated(task.device) - held_before
    return record


def _sample(patcher: ModelPatcher, task: Task, schedule: Tensor, cfg: float, watcher: _Watcher) -> Tensor:
    result: Tensor = comfy.sample.sample_custom(
        patcher,
        task.noise,
        cfg,
        comfy.samplers.sampler_object(SAMPLER),
        schedule,
        task.positive,
        task.negative,
        torch.zeros_like(task.noise),
        callback=watcher.end_step,
        disable_pbar=True,
        seed=0,
    )
    return result


def _record(watcher: _Watcher, is_finite: bool) -> RunRecord:
    clock = watcher.clock
    record = RunRecord(clock.seconds(), watcher.branches, is_finite=is_finite)
    record.step_processor_seconds = clock.processor_seconds()
    if watcher.tgate is not None:
        statistics, schedule = watcher.tgate.statistics, watcher.tgate.schedule
        record.reused = [
            [kind for kind in ("attn1", "attn2") if plan.action(kind).name == REUSE] for plan in schedule.steps
        ]
        record.cache_bytes = statistics.peak_cache_bytes
        record.notes = list(statistics.notes)
    return record


@contextmanager
def _counting(network: nn.Module, watcher: _Watcher) -> Iterator[None]:
    first = next(module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d))
    hook = first.register_forward_pre_hook(watcher.count_branches)
    try:
        yield
    finally:
        hook.remove()


def _reset_peak(device: torch.device) -> int:
    """Begin to watch a graphics card's memory; bytes that it holds now."""
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)
