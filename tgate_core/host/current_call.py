"""The network call that is being made, for modules that do not receive `transformer_options`.

The blocks of many networks are not given the host's options, so their attentions cannot find their call there. Each
thread has a call of its own (with several devices the host makes one thread each), and it is gone when the call ends.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch

from ..engine.forward import ForwardCall

_CURRENT: ContextVar[ForwardCall | None] = ContextVar("tgate_current_call", default=None)


@contextmanager
def current_call(call: ForwardCall) -> Iterator[None]:
    """Makes `call` the current one of this thread, until the block ends."""
    token = _CURRENT.set(call)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def call_of_thread() -> ForwardCall | None:
    """The call that is being made in this thread, of whichever model; none while torch compiles."""
    return None if torch.compiler.is_compiling() else _CURRENT.get()


def call_of(model: weakref.ref[Any]) -> ForwardCall | None:
    """The call that is being made of `model` in this thread, if any; none while torch compiles: active calls never are.

    Args:
        model: a weak reference to the host's model.
    """
    call = None if torch.compiler.is_compiling() else _CURRENT.get()
    return call if call is not None and call.model is model() else None
