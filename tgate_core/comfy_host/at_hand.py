"""The network call that is being made, for attention modules that the host tells nothing.

The blocks of many networks are not given the host's options, so their attentions cannot find their run there. Each
thread has a call of its own (with several devices the host makes one thread each), and it is gone when the call ends.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch

from ..network_call import NetworkCall
from ..run import Run


@dataclass
class CallAtHand:
    """A network call.

    Attributes:
        model: the host's model that is called; attentions of another one are not part of it.
        run: the sampling run.
        call: what it hands out and captures; None where everything is computed as usual.
        network_input: what the host gives to the network, where other nodes stand before that.
        has_run: whether anything of the network was run.
    """

    model: Any
    run: Run
    call: NetworkCall | None
    network_input: Any = None
    has_run: bool = False


_AT_HAND: ContextVar[CallAtHand | None] = ContextVar("tgate_call_at_hand", default=None)


@contextmanager
def at_hand(current: CallAtHand) -> Iterator[None]:
    """Makes `current` the call at hand of this thread, until the block ends."""
    token = _AT_HAND.set(current)
    try:
        yield
    finally:
        _AT_HAND.reset(token)


def call_of_thread() -> CallAtHand | None:
    """The call that is being made in this thread, of whichever model; none while torch compiles."""
    return None if torch.compiler.is_compiling() else _AT_HAND.get()


def call_at_hand(model: weakref.ref[Any]) -> CallAtHand | None:
    """The call that is being made of `model` in this thread, if any; none while torch compiles: gated calls never are.

    Args:
        model: a weak reference to the host's model.
    """
    current = call_of_thread()
    return current if current is not None and current.model is model() else None
