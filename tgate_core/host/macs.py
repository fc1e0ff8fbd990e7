"""Counts multiply-accumulate operations (MACs) of networks that run on shapes alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

# Dimensions of an operand that is not batched.
_MATRIX = 2


@dataclass
class Macs:
    """MACs of linear layers, of convolutions, and of the matrix products of attention itself."""

    linear: int = 0
    convolution: int = 0
    attention: int = 0

    @property
    def layers(self) -> int:
        """As in the papers' tables (arXiv 2404.02747), whose counter did not see the products of attention."""
        return self.linear + self.convolution

    @property
    def full(self) -> int:
        """Including the products of attention."""
        return self.layers + self.attention


class MacsCounter(TorchFunctionMode):
    """Counts layers called on tensors without values (fake, or on `meta`); returns their shape without computing it.

    Counts calls rather than the operations below, as torch's FlopCounterMode does: torch runs some linear layers as
    batched products, indistinguishable from those of attention, and on shapes the operations take seven times as long.

    Attributes:
        macs: the counts so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.macs = Macs()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The result of `func`, without values if it is counted."""
        kwargs = kwargs or {}
        count = _COUNTED.get(func)
        if count is not None:
            first = next(iter((*args, *kwargs.values())))
            if first.is_meta or isinstance(first, FakeTensor):
                return count(self.macs, func, *args, **kwargs)
        return func(*args, **kwargs)


# Parameters have torch's names, because networks may pass them by name.


def _same_shape(_macs: Macs, _func: Any, input: Tensor, *_: Any, **_options: Any) -> Tensor:
    """Normalisation and activations: no MACs, but slow on shapes."""
    return torch.empty_like(input)


def _linear(macs: Macs, _func: Any, input: Tensor, weight: Tensor, *_: Any, **_options: Any) -> Tensor:
    macs.linear += input.numel() * weight.shape[0]
    return input.new_empty(*input.shape[:-1], weight.shape[0])


def _convolution(macs: Macs, func: Any, input: Tensor, weight: Tensor, *args: Any, **options: Any) -> Tensor:
    """Each output value is a product of a filter and a window."""
    output: Tensor = func(input, weight, *args, **options)
    macs.convolution += output.numel() * weight[0].numel()
    return output


def _transposed_convolution(macs: Macs, func: Any, input: Tensor, weight: Tensor, *args: Any, **options: Any) -> Tensor:
    """Each input value is spread by a filter."""
    macs.convolution += input.numel() * weight[0].numel()
    output: Tensor = func(input, weight, *args, **options)
    return output


def _attention(macs: Macs, _func: Any, query: Tensor, key: Tensor, value: Tensor, *_: Any, **_options: Any) -> Tensor:
    """Two products; query, key and value are (B, heads, tokens, width)."""
    macs.attention += query.shape[:-1].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1])
    return query.new_empty(*query.shape[:-1], value.shape[-1])


def _product(macs: Macs, func: Any, input: Tensor, other: Tensor) -> Tensor:
    """A product outside of layers; if batched, of attention (ACE-Step 1 has linear attention without a kernel)."""
    output: Tensor = func(input, other)
    if min(input.ndim, other.ndim) > _MATRIX:
        macs.attention += output.numel() * input.shape[-1]
    else:
        macs.linear += output.numel() * input.shape[-1]
    return output


_COUNTED: dict[Any, Callable[..., Tensor]] = {
    functional.linear: _linear,
    functional.conv_transpose1d: _transposed_convolution,
    functional.scaled_dot_product_attention: _attention,
    **dict.fromkeys((functional.conv1d, functional.conv2d, functional.conv3d), _convolution),
    **dict.fromkeys((torch.matmul, Tensor.matmul, Tensor.__matmul__), _product),
    **dict.fromkeys((functional.group_norm, functional.layer_norm, functional.rms_norm), _same_shape),
    **dict.fromkeys((functional.gelu, functional.silu), _same_shape),
}
