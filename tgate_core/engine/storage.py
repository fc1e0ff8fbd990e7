"""Where captures live, beside the model or in the computer's own memory, and what makes a tensor safe to keep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

CacheDevice = Literal["auto", "model", "cpu"]
CACHE_DEVICES: tuple[CacheDevice, ...] = get_args(CacheDevice)

CPU = torch.device("cpu")
# How many bytes are captured between two looks at the free memory: asking per site would cost more than it tells.
CHECK_EVERY_BYTES = 64 * 2**20


@dataclass(frozen=True)
class CacheSettings:
    """Where captures live.

    Attributes:
        device: beside the model, in the computer's own memory, or the former unless memory runs short.
        limit_mb: most MiB held at once, 0 for no limit; what would not fit is computed instead.
    """

    device: CacheDevice = "auto"
    limit_mb: int = 0


class CaptureStorage:
    """Moves a fresh capture to where it is to live. One a run."""

    def __init__(self, device: CacheDevice, is_memory_short: Callable[[torch.device], bool]) -> None:
        """
        Args:
            device: the user's choice; "auto" stays with the model until `is_memory_short` says otherwise.
            is_memory_short: whether a device has too little memory left for more captures.
        """
        self._uses_cpu = device == "cpu"
        self._is_automatic = device == "auto"
        self._is_memory_short = is_memory_short
        self._bytes_until_check = 0

    def __call__(self, tokens: Tensor) -> Tensor:
        """Returns what to store in place of `tokens`; a copy to the CPU does not synchronise with the device."""
        if tokens.device == CPU or tokens.is_meta:
            return tokens
        if self._is_automatic and not self._uses_cpu:
            self._check_memory(tokens)
        return _copy_to_cpu(tokens) if self._uses_cpu else tokens

    def _check_memory(self, tokens: Tensor) -> None:
        self._bytes_until_check -= tokens.numel() * tokens.element_size()
        if self._bytes_until_check <= 0:
            self._bytes_until_check = CHECK_EVERY_BYTES
            self._uses_cpu = self._is_memory_short(tokens.device)


def _copy_to_cpu(tokens: Tensor) -> Tensor:
    if tokens.device.type != "cuda":
        return tokens.to(CPU)
    # Pinned memory lets the copy run behind the computation; the way back is ordered by the same stream.
    pinned = torch.empty(tokens.shape, dtype=tokens.dtype, device=CPU, pin_memory=True)
    return pinned.copy_(tokens, non_blocking=True)


def detached(tensor: Tensor) -> Tensor:
    """`tensor` free of autograd's graph: what is kept must not hold a step that is over, nor lead back into it."""
    return tensor.detach() if tensor.requires_grad else tensor


def writable(tensor: Tensor) -> Tensor:
    """`tensor`, or a copy where it is from inference mode and what follows is not.

    Outside that mode such a tensor is read-only, and autograd may not save it.
    """
    return tensor.clone() if tensor.is_inference() and not torch.is_inference_mode_enabled() else tensor


def widened(tensor: Tensor) -> Tensor:
    """`tensor` in fp32 at least: sums, differences and quotients of fp16 may lie beyond 65,504, where fp16 ends."""
    return tensor if tensor.dtype.itemsize >= torch.float32.itemsize else tensor.float()
