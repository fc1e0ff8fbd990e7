"""When each step of a run ended, without holding the device up."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import torch


class StepClock:
    """Marks in time. On a graphics card they are put into its queue, for waiting at each step would slow the run."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[Any] = []
        self._processor_marks: list[float] = []

    def mark(self) -> None:
        """Now, in the order of the device's own work."""
        if self._device.type == "cuda":
            make_event: Any = torch.cuda.Event  # torch gives it no types
            event = make_event(enable_timing=True)
            event.record()
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter())
            self._processor_marks.append(time.process_time())

    def seconds(self) -> list[float]:
        """Between each mark and the next; the device has to be done."""
        if self._device.type == "cuda":
            return [float(earlier.elapsed_time(later)) / 1000.0 for earlier, later in pairwise(self._marks)]
        return [later - earlier for earlier, later in pairwise(self._marks)]

    def processor_seconds(self) -> list[float] | None:
        """The same of the processor's seconds, of all threads; None on a graphics card."""
        if self._device.type == "cuda":
            return None
        return [later - earlier for earlier, later in pairwise(self._processor_marks)]


def wait_for(device: torch.device) -> None:
    """Until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
