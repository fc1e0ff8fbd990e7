"""How long each step of a run took, without holding the device up."""

from __future__ import annotations

import time
from typing import Any

import torch


class StepClock:
    """Marks in time. On a graphics card they are put into its queue, for waiting at each step would slow the run."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # Beginning and end of each step, in turn.
        self._marks: list[Any] = []
        self._processor_marks: list[float] = []

    def mark(self) -> None:
        """A step begins, or ends: now, in the order of the device's own work."""
        if self._device.type == "cuda":
            make_event: Any = torch.cuda.Event  # torch gives it no types
            event = make_event(enable_timing=True)
            event.record()
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter())
            self._processor_marks.append(time.process_time())

    def seconds(self) -> list[float]:
        """Of each step that has ended; the device has to be done."""
        steps = zip(self._marks[::2], self._marks[1::2], strict=False)
        if self._device.type == "cuda":
            return [float(begin.elapsed_time(end)) / 1000.0 for begin, end in steps]
        return [end - begin for begin, end in steps]

    def processor_seconds(self) -> list[float] | None:
        """The same of the processor's seconds, of all threads; None on a graphics card."""
        if self._device.type == "cuda":
            return None
        steps = zip(self._processor_marks[::2], self._processor_marks[1::2], strict=False)
        return [end - begin for begin, end in steps]


def wait_for(device: torch.device) -> None:
    """Until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
