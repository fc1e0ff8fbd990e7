"""Networks with attentions removed: the lower bound of what skipping them can cost."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ..pack import Attention, Nodes, attentions


class Nothing(nn.Module):
    """Stands in for an attention: returns its input in the form of the attention's output."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self._input_name, self._pack = attention.input_name, attention.pack

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The first argument, (B, tokens, channels)."""
        return self._pack(args[0] if args else kwargs[self._input_name])


@contextmanager
def without_attentions(network: nn.Module, kinds: Collection[str], nodes: Nodes) -> Iterator[None]:
    """Removes attentions of these kinds while it lasts: no hook, patch or decision remains of them.

    Args:
        network: the host's diffusion model.
        kinds: by the pack's names.
        nodes: the pack's nodes by id.

    Raises:
        ValueError: the network has none that the pack gates.
    """
    found = [attention for attention in attentions(network, nodes) if attention.kind in kinds]
    if kinds and not found:
        raise ValueError("T-GATE knows no attentions of this network")
    try:
        for attention in found:
            network.set_submodule(attention.path, Nothing(attention))
        yield
    finally:
        for attention in found:
            network.set_submodule(attention.path, attention.module)
