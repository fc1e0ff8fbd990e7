"""What stands in for the `forward` of an attention module while T-GATE's model is loaded."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..architectures import Architecture, AttentionSite, pack, unpack
from .at_hand import call_at_hand
from .keys import CALL_KEY, RUN_KEY


class StandInForward:
    """Calls the `forward` that it stands in for; what derives from it does more."""

    def __init__(self, module: nn.Module) -> None:
        self.replaced: Callable[..., Any] | None = module.__dict__.get("forward")
        # A weak reference: the module holds this object, and a cycle would keep its weights alive after its model.
        self._module = weakref.ref(module)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The attention as it would be without T-GATE."""
        if self.replaced is not None:
            return self.replaced(*args, **kwargs)
        module: Any = self._module()
        return type(module).forward(module, *args, **kwargs)


class PatchedForward(StandInForward):
    """For networks whose patches surround an attention: they decide, this only keeps the module from running."""

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Attention output for `x`, (B, tokens, channels); `x` itself where a capture takes the output's place."""
        options = kwargs.get("transformer_options", {})
        call = options.get(CALL_KEY)
        if call is not None and call.is_handing_out:
            return x
        run = options.get(RUN_KEY)
        if run is not None and not torch.compiler.is_compiling():  # a compiled count would be a constant
            run.statistics.attention_computed += 1
        return super().__call__(x, *args, **kwargs)


class GatedForward(StandInForward):
    """For all other networks: hands out and captures by itself."""

    def __init__(self, site: AttentionSite, architecture: Architecture, model: Any) -> None:
        """
        Args:
            site: the attention.
            architecture: the network's.
            model: the host's model that the network belongs to.
        """
        super().__init__(site.module)
        self._name = site.name
        self._rule = site.rule
        self._architecture = architecture
        self._model = weakref.ref(model)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Whatever the attention returns; with a capture in place of its tokens where there is one to reuse."""
        # A compiled call is never a gated one, and a compiled count would be a constant.
        current = None if torch.compiler.is_compiling() else call_at_hand(self._model())
        if current is None:
            return super().__call__(*args, **kwargs)
        call, kind = current.call, self._rule.kind
        if call is not None:
            x = self._inward(args[0] if args else kwargs[self._architecture.input_name])
            if call.enter(kind, self._name, 0, x):
                return pack(self._outward(call.leave(kind, x)), self._rule)
        current.run.statistics.attention_computed += 1
        result = super().__call__(*args, **kwargs)
        tokens = None if call is None else unpack(result, self._rule)
        if call is None or tokens is None:
            return result
        return pack(self._outward(call.leave(kind, self._inward(tokens))), self._rule)

    def _inward(self, tokens: Tensor) -> Tensor:
        """From the network's layout to (conds * B, tokens, channels)."""
        return tokens.movedim(self._architecture.batch_dim, 0)

    def _outward(self, tokens: Tensor) -> Tensor:
        return tokens.movedim(0, self._architecture.batch_dim)
