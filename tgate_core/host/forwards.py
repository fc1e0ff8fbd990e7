"""Skipping an attention module: its `forward` is replaced while the host has the model patched.

A patch cannot keep the module that follows it from running, and shortened inputs crash other nodes. The host's own
way to wrap a module's `forward` is a PatcherInjection: it is put on when the model is loaded, taken off before another
patcher uses it, and always given the patcher, so that clones of the patcher wrap the modules of their own model.

The blocks of many networks are not given the host's options, so their attentions find their call in a context
variable. Each thread has a call of its own (with several devices the host makes one thread each), and it is gone when
the call ends.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from comfy.patcher_extension import CallbacksMP, PatcherInjection
from torch import Tensor, nn

from ..engine.actions import CROSS_ATTENTION
from ..engine.cache import Site
from ..engine.forward import ForwardCall
from .architectures import UNET, Architecture, AttentionSite, SiteRule, attention_sites, joined, pack, unpack
from .keys import PATCHER_KEY
from .networks import architecture, attention_modules, unet_sites

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

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
    """The call that is being made of `model` in this thread, if any; none while torch compiles: see `compiled_calls`.

    Args:
        model: a weak reference to the host's model.
    """
    call = None if torch.compiler.is_compiling() else _CURRENT.get()
    return call if call is not None and call.model is model() else None


class StandInForward:
    """Calls the original `forward`, and counts; base of those that skip it."""

    # What goes in and out, see `Architecture`.
    input_names: tuple[str, ...] = ("x",)
    batch_dim = 0

    def __init__(self, module: nn.Module, model: Any, site: Site | None, rule: SiteRule) -> None:
        """
        Args:
            module: the attention.
            model: the host's model that it belongs to.
            site: its place in the network; None where only the host's options tell it.
            rule: what it returns.
        """
        self.site = site
        self.rule = rule
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
        super().__init__(site.module, model, Site(site.rule.kind, site.name, 0, 0), site.rule)
        self._name = site.name
        self.input_names = tuple(filter(None, (architecture.input_name, architecture.second_name)))
        self.batch_dim = architecture.batch_dim

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Whatever the attention returns; with a capture in place of its tokens where there is one to reuse."""
        call, kind = call_of(self._model), self.rule.kind
        if call is None or not call.is_active:
            return self._compute(call, args, kwargs)
        call.has_run = True
        named = [*args[: len(self.input_names)], *map(kwargs.get, self.input_names[len(args) :])]
        given = [one for one in named if isinstance(one, Tensor)]
        if len(given) != len(self.input_names):  # another pack's attention, with a signature of its own
            call.refuse(kind)
            return self._compute(call, args, kwargs)
        lengths = [one.shape[1] for one in given]
        reused = call.reuse(kind, self._name, 0, self._inward(joined(given)))
        if reused is not None:
            return pack(self._outward(reused), self.rule, lengths)
        result = self._compute(call, args, kwargs)
        tokens = unpack(result, self.rule, lengths)
        if tokens is None:
            call.has_misfit = True
            return result
        return pack(self._outward(call.capture(kind, self._inward(tokens))), self.rule, lengths)

    def _inward(self, tokens: Tensor) -> Tensor:
        """From the network's layout to (conds * B, tokens, channels)."""
        return tokens.movedim(self.batch_dim, 0) if self.batch_dim else tokens

    def _outward(self, tokens: Tensor) -> Tensor:
        return tokens.movedim(0, self.batch_dim) if self.batch_dim else tokens


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
        sites = unet_sites(network)
        for module in attention_modules(network, known):
            yield module, PatchedForward(module, patcher.model, sites.get(module), SiteRule(CROSS_ATTENTION, ""))
    elif known is not None:
        for site in attention_sites(network, known):
            yield site.module, GatedForward(site, known, patcher.model)


def _eject(patcher: ModelPatcher) -> None:
    # The host ejects more often than it injects (clones copy the flag): ejecting twice has to be harmless.
    for module, forward in _injected(patcher):
        _take_off(module, forward)


def has_stand_ins(network: nn.Module) -> bool:
    """Whether any attention of a network has something of ours on it."""
    return any(isinstance(module.__dict__.get("forward"), StandInForward) for module in network.modules())


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
