"""Attentions taken out of a network: what skipping them costs at the least."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

# What the blocks of the host's networks call the attentions that T-GATE gates, by the pack's names of their kinds.
_NAMES = {"attn1": ("attn1", "attn"), "attn2": ("attn2", "cross_attn")}


class Nothing(nn.Module):
    """In the place of an attention: gives back what it is given."""

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        """`x`, (B, tokens, channels)."""
        return x


@contextmanager
def without_attentions(network: nn.Module, kinds: Collection[str]) -> Iterator[None]:
    """Within it, attentions of these kinds are out of the network: no hook, no patch, no decision is left of them.

    Raises:
        ValueError: there are none.
    """
    names = [name for kind in kinds for name in _NAMES[kind]]
    found = [
        (block, name, child) for block in network.modules() for name, child in block.named_children() if name in names
    ]
    if kinds and not found:
        raise ValueError("this network names its attentions otherwise")
    try:
        for block, name, _ in found:
            setattr(block, name, Nothing())
        yield
    finally:
        for block, name, attention in found:
            setattr(block, name, attention)
