"""Skipping an attention module: its `forward` is wrapped while the host has the model patched.

A patch cannot keep the module that follows it from running, and shortened inputs crash other nodes. The host's own
way to wrap a module's `forward` is a PatcherInjection: it is put on when the model is loaded, taken off before another
patcher uses it, and always given the patcher, so that clones of the patcher wrap the modules of their own model.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from comfy.patcher_extension import CallbacksMP, PatcherInjection
from torch import Tensor, nn

from .families import attention_modules
from .keys import CALL_KEY, PATCHER_KEY, RUN_KEY

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


class SkippableForward:
    """Stands in for the `forward` of one attention module; without a network call that skips, it just calls it."""

    def __init__(self, module: nn.Module) -> None:
        self.replaced: Callable[..., Tensor] | None = module.__dict__.get("forward")
        # A weak reference: the module holds this object, and a cycle would keep its weights alive after its model.
        self._module = weakref.ref(module)

    def __call__(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Attention output for `x`, (B, tokens, channels); `x` itself where a capture takes the output's place."""
        options = kwargs.get("transformer_options", {})
        call = options.get(CALL_KEY)
        if call is not None and call.is_handing_out:
            return x
        run = options.get(RUN_KEY)
        if run is not None and not torch.compiler.is_compiling():  # a compiled count would be a constant
            run.statistics.attention_computed += 1
        if self.replaced is not None:
            return self.replaced(x, *args, **kwargs)
        module: Any = self._module()
        return type(module).forward(module, x, *args, **kwargs)


def add_skip_injection(model: ModelPatcher) -> None:
    """Make every attention of a patcher's model skippable while the model is loaded for it.

    The host ejects in the order in which it injects. Where several nodes wrap a `forward` and each puts back what it
    found, only the innermost wrapper can cope with that: so ours goes before all others, and is taken off for good once
    they are gone.
    """
    others = {key: injections for key, injections in model.injections.items() if key != PATCHER_KEY}
    for key in list(model.injections):
        model.remove_injections(key)
    model.set_injections(PATCHER_KEY, [PatcherInjection(inject=_inject, eject=_eject)])
    for key, injections in others.items():
        model.set_injections(key, injections)
    model.remove_callbacks_with_key(CallbacksMP.ON_EJECT_MODEL, PATCHER_KEY)
    model.add_callback_with_key(CallbacksMP.ON_EJECT_MODEL, PATCHER_KEY, _eject)


def _inject(patcher: ModelPatcher) -> None:
    for module in attention_modules(patcher.model.diffusion_model):
        if not isinstance(module.__dict__.get("forward"), SkippableForward):
            module.forward = SkippableForward(module)


def _eject(patcher: ModelPatcher) -> None:
    # The host ejects more often than it injects (clones copy the flag): ejecting twice has to be harmless.
    for module in attention_modules(patcher.model.diffusion_model):
        forward = module.__dict__.get("forward")
        if not isinstance(forward, SkippableForward):
            continue
        if forward.replaced is None:
            del module.forward
        else:
            module.forward = forward.replaced
