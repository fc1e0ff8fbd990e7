"""Several sampling runs at once, a step of each in turn: what the machine does meanwhile, it does to all of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Condition

import torch

from .records import RunRecord

# What a run calls between two steps: it comes back when it is the run's turn again.
Between = Callable[[], None]


class Turns:
    """Lets one of several runs go on at a time."""

    def __init__(self, count: int) -> None:
        self._condition = Condition()
        self._order = deque(range(count))

    def wait(self, number: int) -> None:
        """Until it is this run's turn."""
        with self._condition:
            self._condition.wait_for(lambda: self._order[0] == number)

    def pass_on(self, number: int) -> None:
        """A step of this run, whose turn it is, has ended; waits for its next turn."""
        with self._condition:
            self._order.rotate(-1)
            self._condition.notify_all()
        self.wait(number)

    def leave(self, number: int) -> None:
        """This run has ended."""
        with self._condition:
            self._order.remove(number)
            self._condition.notify_all()


def in_turns(runs: Sequence[Callable[[Between], RunRecord]]) -> list[RunRecord]:
    """Sample all of them, each in a thread of its own, one step of each in turn.

    Args:
        runs: sample; each on a network of its own, for two runs on one would undo each other's patches.

    Raises:
        Exception: the first that one of them raised, once all have ended.
    """
    turns = Turns(len(runs))

    def run_one(number: int) -> RunRecord:
        turns.wait(number)
        try:
            # What is said of gradients holds for a thread: see `command`.
            with torch.inference_mode():
                return runs[number](partial(turns.pass_on, number))
        finally:
            turns.leave(number)

    with ThreadPoolExecutor(max_workers=len(runs)) as threads:
        return [future.result() for future in [threads.submit(run_one, number) for number in range(len(runs))]]
