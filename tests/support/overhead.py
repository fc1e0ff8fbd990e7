"""What a run costs, in numbers that are the same on every machine: operations, calls of ours, bytes alive at once."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from types import FrameType
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tgate_dev.bench.timing.sampling import PeakBytes

# Samples a model; takes the host's callback of a step by keyword.
Sample = Callable[..., Tensor]
PACK_FOLDER = f"{os.sep}tgate_core{os.sep}"


class OperationCounter(TorchDispatchMode):
    """Counts all operations on tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The operation, counted."""
        self.operations[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def operations_by_step(sample: Sample, model: ModelPatcher, **options: Any) -> list[Counter[str]]:
    """All operations of each step but the first, whose count holds the host's preparations as well."""
    counted = OperationCounter()
    marks: list[Counter[str]] = []
    with counted:
        sample(model, callback=lambda *_: marks.append(counted.operations.copy()), **options)
    return [later - earlier for earlier, later in pairwise(marks)]


def operations_of(function: Callable[[Tensor], Any], *shape: int) -> Counter[str]:
    """The operations of a function of a tensor of that shape."""
    tensor = torch.zeros(shape)
    with OperationCounter() as counted:
        function(tensor)
    return counted.operations


def calls_of_ours(sample: Sample, model: ModelPatcher, after: int = 0, **options: Any) -> Counter[str]:
    """Calls of the pack's functions from the end of step `after` to that of the last, by name."""
    calls: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and PACK_FOLDER in frame.f_code.co_filename:
            calls[frame.f_code.co_name] += 1

    def end_step(step: int, _x0: Tensor, _x: Tensor, steps: int) -> None:
        sys.setprofile(note if after <= step < steps - 1 else before)

    before = sys.getprofile()
    try:
        sample(model, callback=end_step, **options)
    finally:
        sys.setprofile(before)
    return calls


class Held:
    """Bytes alive in a run, in all and of captures.

    Attributes:
        peak: most bytes alive at once.
        peak_captures: most bytes of captures at once, by T-GATE's own count; 0 for a plain model.
        after_step: bytes alive at the end of each step.
        captures_after_step: those of them that are captures, by the same count.
    """

    def __init__(self) -> None:
        self.peak = 0
        self.peak_captures = 0
        self.after_step: list[int] = []
        self.captures_after_step: list[int] = []


def held_bytes(sample: Sample, model: ModelPatcher, **options: Any) -> Held:
    """What a run of the model holds."""
    held, runs, watch = Held(), [], PeakBytes()

    def look(executor: Any, *args: Any, **kwargs: Any) -> Any:
        runs.append(executor.class_obj.model_options["transformer_options"].get("tgate_run"))
        return executor(*args, **kwargs)

    def end_step(*_: Any) -> None:
        held.after_step.append(watch.now)
        held.captures_after_step.append(0 if runs[0] is None else runs[0].cache.nbytes)

    observed = model.clone()  # stands inside of T-GATE's wrapper
    observed.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "look", look)
    with torch.no_grad(), watch:
        sample(observed, callback=end_step, **options)
    held.peak = watch.peak
    held.peak_captures = 0 if runs[0] is None else runs[0].counts.peak_cache_bytes
    return held
