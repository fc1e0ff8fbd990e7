"""Peak memory of a run, without what was allocated before."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Result = TypeVar("Result")


def with_peak(device: torch.device, run: Callable[..., Result], *args: Any) -> tuple[Result, int]:
    """The result of a run and its peak memory in bytes; on the CPU, counting slows the run down."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return run(*args), torch.cuda.max_memory_allocated(device) - before
    with PeakBytes() as counted:
        return run(*args), counted.peak


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
