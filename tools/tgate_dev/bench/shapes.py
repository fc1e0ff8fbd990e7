"""Running the host's networks without weights, on torch's `meta` device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

META = torch.device("meta")


class WeightsOnMeta(TorchFunctionMode):
    """Puts the weights of modules made meanwhile on `meta`: the host allocates them with `torch.empty`.

    Constructors also make small tables and read from them, so `meta` cannot be the default device.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.empty and kwargs.get("device") is not None:
            kwargs = {**kwargs, "device": META}
        return func(*args, **kwargs)


@contextmanager
def run_on_meta(network: nn.Module) -> Iterator[None]:
    """Lets a network with parameters on `meta` take CPU tensors and return zeros, so that the sampler runs for real.

    Hooks on the network itself: not all of the host's networks run its DIFFUSION_MODEL wrappers.
    """
    inputs = network.register_forward_pre_hook(_inputs_to_meta, with_kwargs=True)
    output = network.register_forward_hook(
        lambda _network, _args, output: torch.zeros(output.shape, dtype=output.dtype)
    )
    try:
        yield
    finally:
        inputs.remove()
        output.remove()


def _inputs_to_meta(_network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    return tuple(map(_to_meta, args)), {name: _to_meta(value) for name, value in kwargs.items()}


def _to_meta(value: Any) -> Any:
    """Tensors and lists of them; dictionaries (`transformer_options`) are left to the nodes."""
    if isinstance(value, list):
        return [_to_meta(element) for element in value]
    return value.to(META) if isinstance(value, Tensor) else value
