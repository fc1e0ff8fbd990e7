"""Network calls that capture or reuse attention in code that torch compiled.

What such a call does is decided before it, and constant while it lasts: each attention gets a `forward` that keeps its
output, or gives a capture in its place, and compiled code guards on which of the two that is. Captures go in and out as
attributes of an `AttentionSlot`. Nothing else of ours is in the compiled region: no options, patches or counts.

For each combination of actions the compiled parts enter by a function with a code object of its own. Torch keeps what
it compiled by code object: so plain calls find what they would find without T-GATE, and no phase uses up another's
share of torch's limit on recompilations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import product
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from comfy.patcher_extension import WrappersMP
from torch import Tensor, nn

from ..deepcache.technique import DeepCall
from ..engine.actions import CROSS_ATTENTION, SELF_ATTENTION, Action, AttentionKind
from ..engine.batch_pass import CondBatchPass
from ..engine.cache import Site
from ..engine.forward import ForwardCall
from .architectures import joined, pack, unpack
from .attention import Options, are_attentions_patched
from .compiled import COMPILED_IN_PLACE, is_compiled_whole
from .forwards import StandInForward
from .networks import attention_modules
from .unet_blocks import deep_layers, within_layers

if TYPE_CHECKING:
    from ..engine.run import NetworkFacts, Run

Forward = Callable[..., Any]
Actions = tuple[Action, ...]

OBSERVED = "torch.compile: calls that a probe measures run uncompiled"
INLINE = "torch.compile: calls that capture or reuse attention within a block of this network run uncompiled"
IN_DEPTH = (
    "torch.compile: calls that keep or reuse the deep feature of DeepCache run uncompiled where more than single "
    "transformer blocks is compiled"
)
SITE_BY_SITE = "torch.compile: calls in which single attentions have gates of their own run uncompiled"
SEVERAL_DEVICES = "torch.compile: calls that capture or reuse attention on several devices run uncompiled"
ELSEWHERE = "torch.compile: calls whose captures live in the computer's own memory run uncompiled"
OTHER_HOOKS = "torch.compile: another node changes the attentions or wraps the network, so gated calls run uncompiled"
NOT_AT_HAND = (
    "torch.compile: calls that lack captures, have them in the computer's own memory, or whose attentions another node "
    "wraps, run uncompiled"
)


def _call(network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What is compiled in place of a part of the network."""
    return network(*args, **kwargs)


def _with_own_code(name: str) -> Forward:
    """`_call`, as a function that torch does not take for the same."""
    return FunctionType(_call.__code__.replace(co_name=name), globals(), name)


# By what happens to self- and to cross-attention, and whether the call has a part in DeepCache: then its options hold
# patches of ours.
_ENTRIES: dict[tuple[Actions, bool], Forward] = {
    (actions, is_deep): _with_own_code(
        "_".join([*("deep" for _ in range(is_deep)), *(one.name.lower() for one in actions)])
    )
    for actions in product(Action, repeat=2)
    for is_deep in (False, True)
}


class AttentionSlot:
    """One attention of a network, as compiled code sees it."""

    def __init__(self, module: nn.Module, stand_in: StandInForward, site: Site) -> None:
        """
        Args:
            module: the attention.
            stand_in: what T-GATE has put on it.
            site: its place in the network.
        """
        self.module = module
        self.stand_in = stand_in
        self.site = site
        self.kind: AttentionKind = SELF_ATTENTION if site.kind == SELF_ATTENTION else CROSS_ATTENTION
        self.rule = stand_in.rule
        self.input_names = stand_in.input_names
        self.clear()

    def clear(self) -> None:
        """As before any call."""
        self.original: Forward | None = None
        self.given: Tensor | None = None
        self.kept: Any = None
        self.is_met = self.is_met_again = self.has_misfit = False


def _meet(slot: Any) -> None:
    if slot.is_met:
        slot.is_met_again = True
    slot.is_met = True


def _keep(slot: Any, *args: Any, **kwargs: Any) -> Any:
    """In place of an attention: runs it, and keeps what it returns."""
    _meet(slot)
    slot.kept = slot.original(*args, **kwargs)
    if len(slot.input_names) > 1:
        slot.has_misfit = unpack(slot.kept, slot.rule, _lengths(_streams(slot, args, kwargs))) is None
    return slot.kept


def _give(slot: Any, *args: Any, **kwargs: Any) -> Any:
    """In place of an attention: gives the capture, where what comes in has its form."""
    _meet(slot)
    streams, given = _streams(slot, args, kwargs), slot.given
    if streams:
        x, lengths = streams[0], _lengths(streams)
        shape = (x.shape[0], sum(lengths), *x.shape[2:]) if len(streams) > 1 else x.shape
        if shape == given.shape and x.dtype == given.dtype and x.device == given.device:
            return pack(given, slot.rule, lengths)
    slot.has_misfit = True
    return slot.original(*args, **kwargs)


def _streams(slot: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """What an attention attends to: tokens of the picture, and of text where it takes them apart; else none."""
    names = slot.input_names
    named = [*args[: len(names)], *[kwargs.get(name) for name in names[len(args) :]]]
    streams = [one for one in named if isinstance(one, Tensor)]
    return streams if len(streams) == len(names) else []


def _lengths(streams: list[Tensor]) -> list[int]:
    return [one.shape[1] for one in streams]


_IN_PLACE = {Action.CAPTURE: _keep, Action.REUSE: _give}


class CompiledNetwork:
    """A network while a compile node has its modules in place; made once a run."""

    def __init__(self, network: Any) -> None:
        """
        Args:
            network: what the node has put in place of the network, or the network with compiled modules in it.
        """
        self._network = network
        self._parts: list[Any] = [module for module in network.modules() if is_compiled_whole(module)]
        found = [(module, vars(module).get("forward")) for module in network.modules()]
        self._stand_ins = [(module, forward) for module, forward in found if isinstance(forward, StandInForward)]
        self._slots = [AttentionSlot(module, one, one.site) for module, one in self._stand_ins if one.site is not None]
        # Another node's wrapper around a stand-in, or a block whose place is not known, hides an attention.
        attentions = attention_modules(network._orig_mod if is_compiled_whole(network) else network)
        self._has_all = {id(module) for module in attentions} == {id(slot.module) for slot in self._slots}
        self._entries: dict[tuple[Actions, bool], list[Forward]] = {}
        # What DeepCache leaves out are layers of a UNet: compiled code must be within them, to be left out with them.
        self._is_within_layers = within_layers(network, self._parts)

    @contextmanager
    def plain_call(self, call: ForwardCall) -> Iterator[None]:
        """Around a call that does nothing: with none of our stand-ins it is compiled as without T-GATE."""
        with self._stand_ins_off():
            yield
        call.computed += len(self._stand_ins)

    @contextmanager
    def gated_call(self, call: ForwardCall) -> Iterator[str | None]:
        """Around a call that captures or reuses; gives why compiled code does not do that, None where it does.

        If not, the call runs uncompiled, with all stand-ins in place, and finds its captures itself.
        """
        before = [part.forward for part in self._parts]
        is_cut = call.depth is not None and not self._is_within_layers
        slots = None if is_cut else self._prepared(call)
        try:
            if slots is None:
                _set_forwards(self._parts, [part._orig_mod for part in self._parts])
                yield IN_DEPTH if is_cut else NOT_AT_HAND
                return
            _set_forwards(self._parts, self._entered(_actions(call), call.depth is not None))
            with self._stand_ins_off(), _in_place(slots):
                yield None
            self._settle(call, slots)
        finally:
            _set_forwards(self._parts, before)
            for slot in self._slots:
                slot.clear()

    def _prepared(self, call: ForwardCall) -> list[tuple[AttentionSlot, Action]] | None:
        """The attentions that the call has a say in, each with its capture; None where captures are not at hand."""
        if call.plan is None:
            return None
        actions = [(slot, call.plan.actions[slot.kind]) for slot in self._slots]
        is_idle = all(action is Action.COMPUTE for action in call.plan.actions.values())
        if not (is_idle or self._has_all):
            return None
        if any(vars(module).get("forward") is not forward for module, forward in self._stand_ins):
            return None
        forms = {slot: call.form_ahead(slot.site) for slot, action in actions if action is Action.REUSE}
        # Those in layers that are about to be left out may never have been captured.
        left_out = self._left_out(call)
        if any(form is None and id(slot.module) not in left_out for slot, form in forms.items()):
            return None
        for slot, form in forms.items():
            if form is not None:
                slot.given = _outward(slot, call.reuse(slot.kind, slot.site.block, slot.site.block_index, form))
        return [
            (slot, action)
            for slot, action in actions
            if action is Action.CAPTURE or (action is Action.REUSE and forms[slot] is not None)
        ]

    def _entered(self, actions: Actions, is_deep: bool) -> list[Forward]:
        """Forwards of the compiled parts for calls of these actions."""
        key = actions, is_deep
        if key not in self._entries:
            self._entries[key] = [_entry(part, _ENTRIES[key]) for part in self._parts]
        return self._entries[key]

    def _settle(self, call: ForwardCall, slots: Iterable[tuple[AttentionSlot, Action]]) -> None:
        """The network has run: what it kept is captured, and what it did is counted."""
        for slot, action in slots:
            call.has_run = call.has_run or slot.is_met
            if slot.is_met_again:
                call.note_another_run()
            if action is Action.CAPTURE:
                _capture(call, slot)
            elif slot.has_misfit or not slot.is_met:
                call.take_back(slot.kind, slot.has_misfit)
        left_out = len(self._left_out(call)) if call.is_shallow else 0
        call.computed += len(self._stand_ins) - left_out - call.reused.total()

    def _left_out(self, call: ForwardCall) -> set[int]:
        """The attentions, by id, in layers that a call leaves out, or is about to leave out."""
        depth = None if call.plan is None else call.plan.depth
        if depth is None or depth.action is not Action.REUSE or not isinstance(call.depth, DeepCall):
            return set()
        layers = deep_layers(self._network, call.depth.branch)
        inside = {id(module) for layer in layers for module in layer.modules()}
        return inside & {id(module) for module, _ in self._stand_ins}

    @contextmanager
    def _stand_ins_off(self) -> Iterator[None]:
        """While it lasts, the attentions are as they are without T-GATE."""
        taken = [(module, forward) for module, forward in self._stand_ins if vars(module).get("forward") is forward]
        for module, forward in taken:
            _set_forward(module, forward.replaced)
        try:
            yield
        finally:
            for module, forward in taken:
                _set_forward(module, forward)


@contextmanager
def _in_place(slots: Iterable[tuple[AttentionSlot, Action]]) -> Iterator[None]:
    """While it lasts, these attentions keep their outputs, or give their captures."""
    before = [(slot.module, vars(slot.module).get("forward")) for slot, _ in slots]
    for slot, action in slots:
        slot.original = slot.module.forward
        _set_forward(slot.module, MethodType(_IN_PLACE[action], slot))
    try:
        yield
    finally:
        for module, forward in before:
            _set_forward(module, forward)


def _set_forward(module: nn.Module, forward: Forward | None) -> None:
    """Not by the module's own way, which takes long."""
    if forward is None:
        vars(module).pop("forward", None)
    else:
        vars(module)["forward"] = forward


def _set_forwards(modules: Iterable[nn.Module], forwards: Iterable[Forward]) -> None:
    for module, forward in zip(modules, forwards, strict=True):
        _set_forward(module, forward)


def _entry(part: Any, function: Forward) -> Forward:
    """`forward` of a compiled module that enters the compiled code by `function`."""
    network, compiled = part._orig_mod, part.dynamo_ctx(function)

    def forward(*args: Any, **kwargs: Any) -> Any:
        return compiled(network, args, kwargs)

    return forward


def _actions(call: ForwardCall) -> Actions:
    return () if call.plan is None else (call.plan.actions[SELF_ATTENTION], call.plan.actions[CROSS_ATTENTION])


def _outward(slot: AttentionSlot, tokens: Tensor | None) -> Tensor | None:
    """From (conds * B, tokens, channels) to the network's layout, and back."""
    batch_dim = slot.stand_in.batch_dim
    return tokens.transpose(0, batch_dim) if batch_dim and tokens is not None else tokens


def _capture(call: ForwardCall, slot: AttentionSlot) -> None:
    """Keep what an attention returned."""
    if not slot.is_met:
        return
    if len(slot.input_names) > 1:
        tokens = None if slot.has_misfit else joined(slot.kept)
    else:
        tokens = _outward(slot, unpack(slot.kept, slot.rule))
    slot.kept = None
    if tokens is None:
        call.has_misfit = True
        return
    if tokens.is_cuda:  # with CUDA graphs the next call would write into what this one returned
        tokens = tokens.clone()
    call.reuse(slot.kind, slot.site.block, slot.site.block_index, tokens)
    call.capture(slot.kind, tokens)


def why_uncompiled(run: Run, batch_pass: CondBatchPass, facts: NetworkFacts, model_options: Options) -> str | None:
    """Why network calls of a pass that captures or reuses are not to run compiled; None where they may.

    Args:
        run: the run.
        batch_pass: the pass.
        facts: what is known of the network without the node that compiles it for a call.
        model_options: the host's, of the pass.
    """
    plan, options = batch_pass.plan, model_options["transformer_options"]
    if "multigpu_clones" in model_options:
        return SEVERAL_DEVICES
    if plan.is_observed:
        return OBSERVED
    if facts.inline:
        return INLINE
    if plan.site_actions:
        return SITE_BY_SITE
    if run.context.settings.device == "cpu" != batch_pass.device.type:
        return ELSEWHERE
    if facts.is_compiled:
        return COMPILED_IN_PLACE
    is_wrapped = any(options.get("wrappers", {}).get(WrappersMP.DIFFUSION_MODEL, {}).values())
    return OTHER_HOOKS if is_wrapped or are_attentions_patched(options) else None
