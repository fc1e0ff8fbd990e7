"""Attentions taken out of a network: what skipping them costs at the least."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import nn

Core = Callable[[str], ModuleType]


def _as_it_is(x: Any) -> Any:
    return x


class Nothing(nn.Module):
    """In the place of an attention: gives back what it is given."""

    def __init__(self, input_name: str = "x", pack: Callable[[Any], Any] = _as_it_is) -> None:
        """
        Args:
            input_name: the attention's first parameter.
            pack: makes what the attention returns of its tokens.
        """
        super().__init__()
        self._input_name = input_name
        self._pack = pack

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The first argument, (B, tokens, channels), in the form in which the attention returns its tokens."""
        return self._pack(args[0] if args else kwargs[self._input_name])


@dataclass(frozen=True)
class Attention:
    """An attention of a network.

    Attributes:
        kind: by the pack's names: attn1 is self-, attn2 cross-attention.
        path: its full name in the network.
        module: the attention itself.
        nothing: what can stand in its place.
    """

    kind: str
    path: str
    module: nn.Module
    nothing: Nothing


def attentions(network: nn.Module, core: Core) -> list[Attention]:
    """The attentions that the pack gates, in the order of the network's modules; none in a network it does not know.

    Args:
        network: the host's diffusion model.
        core: gets a module of the pack's core, see `pack_core`.
    """
    architectures = core("host.architectures")
    known = architectures.architecture_of(network)
    if known is None:
        return []
    if known is architectures.UNET:
        gated = set(core("host.networks").attention_modules(network))
        # The host's UNets call both kinds as the pack does.
        return [
            Attention(name.rpartition(".")[2], name, module, Nothing())
            for name, module in network.named_modules()
            if module in gated
        ]

    def nothing(rule: Any) -> Nothing:
        return Nothing(known.input_name, lambda tokens: architectures.pack(tokens, rule))

    sites = architectures.attention_sites(network, known)
    return [Attention(site.rule.kind, site.name, site.module, nothing(site.rule)) for site in sites]


@contextmanager
def without_attentions(network: nn.Module, kinds: Collection[str], core: Core) -> Iterator[None]:
    """Within it, attentions of these kinds are out of the network: no hook, no patch, no decision is left of them.

    Args:
        network: the host's diffusion model.
        kinds: by the pack's names.
        core: gets a module of the pack's core, see `pack_core`.

    Raises:
        ValueError: there are none.
    """
    found = [attention for attention in attentions(network, core) if attention.kind in kinds]
    if kinds and not found:
        raise ValueError("T-GATE knows no attentions of this network")
    try:
        for attention in found:
            _put(network, attention.path, attention.nothing)
        yield
    finally:
        for attention in found:
            _put(network, attention.path, attention.module)


def _put(network: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, module)
