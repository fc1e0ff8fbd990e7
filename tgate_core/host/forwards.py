"""Replacements of the `forward` of attention modules while a gated model is loaded."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ..engine.forward import ForwardCall
from .architectures import Architecture, AttentionSite, pack, unpack
from .current_call import call_of


class StandInForward:
    """Calls the original `forward`, and counts; base of those that skip it."""

    def __init__(self, module: nn.Module, model: Any) -> None:
        """
        Args:
            module: the attention.
            model: the host's model that it belongs to.
        """
        self.replaced: Callable[..., Any] | None = module.__dict__.get("forward")
        # Weak references: the module holds this object, and a cycle would keep its weights alive after its model.
        self._module = weakref.ref(module)
        self._model = weakref.ref(model)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Whatever the attention returns."""
        return self._compute(call_of(self._model), args, kwargs)

    def _compute(self, call: ForwardCall | None, args: Any, kwargs: Any) -> Any:
        """The attention as it would be in the plain run."""
        if call is not None:
            call.has_run = True
            call.computed += 1
        if self.replaced is not None:
            return self.replaced(*args, **kwargs)
        module: Any = self._module()
        return type(module).forward(module, *args, **kwargs)


class PatchedForward(StandInForward):
    """For networks whose patches surround an attention: they decide, this only keeps the module from running."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Attention output, (B, tokens, channels); the input itself where a capture takes the output's place."""
        call = call_of(self._model)
        if call is not None and call.pending is not None:
            call.has_run = True
            return args[0]
        return self._compute(call, args, kwargs)


class GatedForward(StandInForward):
    """For all other networks: reuses and captures by itself."""

    def __init__(self, site: AttentionSite, architecture: Architecture, model: Any) -> None:
        """
        Args:
            site: the attention.
            architecture: the network's.
            model: the host's model that the network belongs to.
        """
        super().__init__(site.module, model)
        self._name = site.name
        self._rule = site.rule
        self._input_name = architecture.input_name
        self._batch_dim = architecture.batch_dim

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Whatever the attention returns; with a capture in place of its tokens where there is one to reuse."""
        call, kind = call_of(self._model), self._rule.kind
        if call is None or not call.is_active:
            return self._compute(call, args, kwargs)
        call.has_run = True
        given = args[0] if args else kwargs.get(self._input_name)
        if not isinstance(given, Tensor):  # another pack's attention, with a signature of its own
            call.refuse(kind)
            return self._compute(call, args, kwargs)
        reused = call.reuse(kind, self._name, 0, self._inward(given))
        if reused is not None:
            return pack(self._outward(reused), self._rule)
        result = self._compute(call, args, kwargs)
        tokens = unpack(result, self._rule)
        if tokens is None:
            call.has_misfit = True
            return result
        return pack(self._outward(call.capture(kind, self._inward(tokens))), self._rule)

    def _inward(self, tokens: Tensor) -> Tensor:
        """From the network's layout to (conds * B, tokens, channels)."""
        return tokens.movedim(self._batch_dim, 0) if self._batch_dim else tokens

    def _outward(self, tokens: Tensor) -> Tensor:
        return tokens.movedim(0, self._batch_dim) if self._batch_dim else tokens
