"""Skipping an attention module: its `forward` is replaced while the host has the model patched.

A patch cannot keep the module that follows it from running, and shortened inputs crash other nodes. The host's own
way to wrap a module's `forward` is a PatcherInjection: it is put on when the model is loaded, taken off before another
patcher uses it, and always given the patcher, so that clones of the patcher wrap the modules of their own model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from comfy.patcher_extension import CallbacksMP, PatcherInjection
from torch import nn

from .architectures import UNET, attention_sites
from .forwards import GatedForward, PatchedForward, StandInForward
from .keys import PATCHER_KEY
from .networks import architecture, attention_modules

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
    known = architecture(patcher)
    if known is UNET:
        yield from ((module, PatchedForward(module, patcher.model)) for module in attention_modules(network, known))
    elif known is not None:
        for site in attention_sites(network, known):
            yield site.module, GatedForward(site, known, patcher.model)


def _eject(patcher: ModelPatcher) -> None:
    # The host ejects more often than it injects (clones copy the flag): ejecting twice has to be harmless.
    for module, forward in _injected(patcher):
        _take_off(module, forward)


def _injected(patcher: ModelPatcher) -> list[tuple[nn.Module, StandInForward]]:
    """Modules with something of ours on them, and what that is."""
    # All modules: what another node made of the network meanwhile must not hide one of them.
    found = [(module, module.__dict__.get("forward")) for module in patcher.model.diffusion_model.modules()]
    return [(module, forward) for module, forward in found if isinstance(forward, StandInForward)]


def _take_off(module: nn.Module, forward: StandInForward) -> None:
    if forward.replaced is None:
        del module.forward
    else:
        module.forward = forward.replaced


class StandInsAside:
    """Takes the stand-ins off a model that is loaded, and puts them back: the host still takes them to be there.

    A stand-in that another node has wrapped stays; it calls the original.
    """

    def __init__(self) -> None:
        self._patcher: ModelPatcher | None = None
        self._taken: list[tuple[nn.Module, StandInForward]] = []

    def take_off(self, patcher: ModelPatcher) -> None:
        """Leave nothing on the attentions of a patcher's model."""
        self._patcher = patcher
        for module, forward in _injected(patcher):
            self._taken.append((module, forward))
            _take_off(module, forward)

    def put_back(self) -> None:
        """Undo `take_off`, where the model is still loaded and its attentions are as they were left."""
        if self._patcher is not None and self._patcher.is_injected:
            for module, forward in self._taken:
                if module.__dict__.get("forward") is forward.replaced:
                    module.forward = forward
