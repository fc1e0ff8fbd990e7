"""Running the host's networks on shapes alone, and counting what their layers would do.

The layers here have the host's parameters, on torch's `meta` device, and give results of the right shape without
looking at any values. They count themselves: torch's own counter, which watches every operation, takes several times
as long (and agrees: see tests/macs).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import comfy.ops
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

META = torch.device("meta")
MATRIX = 2
# Under which the host's networks know the attention kernel of the machine.
_KERNELS = ("optimized_attention", "optimized_attention_masked")
_PRODUCTS = (torch.matmul, Tensor.matmul, Tensor.__matmul__)
# Slow on `meta`, as normalisation is.
_ACTIVATIONS = (nn.functional.gelu, nn.functional.silu)


TERA = 10**12


@dataclass
class Macs:
    """MACs by kind: linear layers, convolutions, and the matrix products of attention, its kernel's above all."""

    linear: int = 0
    convolution: int = 0
    attention: int = 0

    @property
    def published(self) -> int:
        """What the published tables count: their counter did not see inside attention kernels."""
        return self.linear + self.convolution

    @property
    def full(self) -> int:
        """With attention's products."""
        return self.linear + self.convolution + self.attention


_macs: ContextVar[Macs] = ContextVar("macs")


@contextmanager
def counting() -> Iterator[Macs]:
    """What networks made of `ShapeOperations` do within it, attention kernels included."""
    with ExitStack() as stack:
        for module in _users_of_kernels():
            stack.enter_context(_kernels_replaced(module))
        macs = Macs()
        stack.callback(_macs.reset, _macs.set(macs))
        stack.enter_context(_Functions())
        yield macs


class WeightsOnMeta(TorchFunctionMode):
    """Within it, modules are made on the device they ask for, but for their weights: the host allocates those empty.

    Some constructors read numbers from small tables that they make, so that not all can be on `meta` at once.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.empty and kwargs.get("device") is not None:
            kwargs = {**kwargs, "device": META}
        return func(*args, **kwargs)


def run_on_meta(network: nn.Module) -> None:
    """Have a network's parameters on `meta` called with tensors of the CPU; it answers with zeros there.

    Around the call of the network itself, which all of the host's networks have in common; not all of them run the
    host's wrappers, and what is around it (the sampler, the guider, the nodes) has to run for real.
    """
    network.register_forward_pre_hook(_inputs_to_meta, with_kwargs=True)
    network.register_forward_hook(_output_to_zeros)


class ShapeOperations(comfy.ops.disable_weight_init):  # type: ignore[misc]  # the host has no types
    """The host's layers on shapes. Normalisation holds no MACs, and is slowest of all on `meta`."""

    class Linear(comfy.ops.disable_weight_init.Linear):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            _macs.get().linear += x.numel() * self.out_features
            return x.new_empty(*x.shape[:-1], self.out_features)

    class Conv1d(comfy.ops.disable_weight_init.Conv1d):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            return _counted_convolution(self, super().forward(x))

    class Conv2d(comfy.ops.disable_weight_init.Conv2d):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            return _counted_convolution(self, super().forward(x))

    class Conv3d(comfy.ops.disable_weight_init.Conv3d):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            return _counted_convolution(self, super().forward(x))

    class ConvTranspose1d(comfy.ops.disable_weight_init.ConvTranspose1d):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            _macs.get().convolution += x.numel() * (self.weight.numel() // self.in_channels)
            return super().forward(x)  # type: ignore[no-any-return]

    class GroupNorm(comfy.ops.disable_weight_init.GroupNorm):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            return torch.empty_like(x)

    class LayerNorm(comfy.ops.disable_weight_init.LayerNorm):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            return torch.empty_like(x)

    class RMSNorm(comfy.ops.disable_weight_init.RMSNorm):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            return torch.empty_like(x)


class _Functions(TorchFunctionMode):
    """Counts the matrix products outside of layers. Those that come in batches are attention's.

    They are found in the kernel, and in networks that do without: ACE-Step 1 has linear self-attention.
    Activations are reduced to their shape.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _ACTIVATIONS and args[0].device == META:
            return torch.empty_like(args[0])
        output = func(*args, **(kwargs or {}))
        if func in _PRODUCTS and output.device == META:
            left, right = args
            _count_product(left, right, output)
        return output


def _count_product(left: Tensor, right: Tensor, product: Tensor) -> None:
    macs = product.numel() * left.shape[-1]
    if min(left.ndim, right.ndim) > MATRIX:
        _macs.get().attention += macs
    else:
        _macs.get().linear += macs


def _counted_convolution(layer: Any, output: Tensor) -> Tensor:
    """`output`, (B, channels, …): every number of it is the product of a filter and a window."""
    _macs.get().convolution += output.numel() * (layer.weight.numel() // layer.out_channels)
    return output


def _attention_on_shapes(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: int,
    *_: Any,
    skip_reshape: bool = False,
    skip_output_reshape: bool = False,
    **_options: Any,
) -> Tensor:
    """The host's attention kernel: only its two matrix products, which are counted like all others.

    `q` is (B, tokens, heads * width), `k` and `v` the same with other tokens; with `skip_reshape` they are
    (B, heads, tokens, width). Two such flags of the host decide on the layout of the result independently.
    """
    batch, tokens, width = q.shape[0], q.shape[-2], q.shape[-1]
    if not skip_reshape:
        width //= heads
    rows, others = batch * heads, k.shape[-2]
    scores = torch.matmul(q.new_empty(rows, tokens, width), k.new_empty(rows, width, others))
    torch.matmul(scores, v.new_empty(rows, others, width))
    return q.new_empty((batch, heads, tokens, width) if skip_output_reshape else (batch, tokens, heads * width))


def _users_of_kernels() -> list[ModuleType]:
    """The host's modules that import the kernel; some have no other way to be given one (`transformer_options`)."""
    names = [name for name in sys.modules if name.startswith("comfy.ldm.")]
    return [module for module in map(sys.modules.get, names) if module is not None]


@contextmanager
def _kernels_replaced(module: ModuleType) -> Iterator[None]:
    kernels = {name: vars(module)[name] for name in _KERNELS if name in vars(module)}
    try:
        vars(module).update(dict.fromkeys(kernels, _attention_on_shapes))
        yield
    finally:
        vars(module).update(kernels)


def _inputs_to_meta(_network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    return tuple(map(_to_meta, args)), {name: _to_meta(value) for name, value in kwargs.items()}


def _to_meta(value: Any) -> Any:
    """Tensors and lists of them. What is in dictionaries (`transformer_options`) is for nodes to read."""
    if isinstance(value, list):
        return [_to_meta(element) for element in value]
    return value.to(META) if isinstance(value, Tensor) else value


def _output_to_zeros(_network: nn.Module, _args: tuple[Any, ...], output: Tensor) -> Tensor:
    return torch.zeros(output.shape, dtype=output.dtype)
