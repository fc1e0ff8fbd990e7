"""Skipping an attention module: something stands in for its `forward` while the host has the model patched.

A patch cannot keep the module that follows it from running, and shortened inputs crash other nodes. The host's own
way to wrap a module's `forward` is a PatcherInjection: it is put on when the model is loaded, taken off before another
patcher uses it, and always given the patcher, so that clones of the patcher wrap the modules of their own model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from comfy.patcher_extension import CallbacksMP, PatcherInjection
from torch import nn

from ..architectures import UNET, architecture_of, attention_sites
from .families import attention_modules
from .forwards import GatedForward, PatchedForward, StandInForward
from .keys import PATCHER_KEY

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


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
    for module, forward in _stand_ins(patcher):
        if not isinstance(module.__dict__.get("forward"), StandInForward):
            module.forward = forward


def _stand_ins(patcher: ModelPatcher) -> Iterator[tuple[nn.Module, StandInForward]]:
    network = patcher.model.diffusion_model
    known = architecture_of(network)
    if known is UNET:
        yield from ((module, PatchedForward(module, patcher.model)) for module in attention_modules(network))
    elif known is not None:
        for site in attention_sites(network, known):
            yield site.module, GatedForward(site, known, patcher.model)


def _eject(patcher: ModelPatcher) -> None:
    # The host ejects more often than it injects (clones copy the flag): ejecting twice has to be harmless.
    for module in attention_modules(patcher.model.diffusion_model):
        forward = module.__dict__.get("forward")
        if not isinstance(forward, StandInForward):
            continue
        if forward.replaced is None:
            del module.forward
        else:
            module.forward = forward.replaced
