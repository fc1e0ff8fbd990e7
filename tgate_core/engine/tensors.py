"""Makes tensors safe to keep, to reuse and to compute with, whatever mode of torch they come from."""

from __future__ import annotations

import torch
from torch import Tensor


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
