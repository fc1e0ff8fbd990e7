"""Attention patches: what the host calls before and after each attention of a UNet's block.

The host runs a block's attention as a chain: input patches in node order, then a replacement or the module, then
output patches in node order. T-GATE captures what comes out of the whole chain, and reuses that instead of the whole
chain: in a network call that it gates, its own patches stand first and last, and all others step aside where it skips.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from ..engine.actions import CROSS_ATTENTION, SELF_ATTENTION, AttentionKind
from ..engine.forward import ForwardCall
from .keys import CALL_KEY, INPUT_KEY, OWN_KEYS

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

Options = dict[str, Any]
Patch = Callable[..., Any]
Slot = Literal["attn1", "attn2"]  # the host's names for the two attentions of a block
AttentionInputs = tuple[Tensor, Tensor | None, Tensor | None]


def _enter(slot: Slot, n: Tensor, context: Tensor, value: Tensor, extra_options: Options) -> AttentionInputs:
    """Before an attention: `n` is (B, tokens, channels), the input; `context` and `value` are what it attends to."""
    call: PatchedCall | None = extra_options.get(CALL_KEY)
    if call is None or torch.compiler.is_compiling():
        return n, context, value
    call.enter(slot, n, context, extra_options)
    if slot == "attn1" and call.is_alone and context is n and value is n:
        # As without any patch: otherwise the host would hold on to this input until the end of the block.
        return n, None, None
    return n, context, value


def _leave(slot: Slot, n: Tensor, extra_options: Options) -> Tensor:
    """After an attention: `n` is (B, tokens, channels), its output; returns what the residual gets."""
    call: PatchedCall | None = extra_options.get(CALL_KEY)
    return n if call is None or torch.compiler.is_compiling() else call.leave(slot, n)


# The patches, by the host's names for them. Functions, since they are recognised by identity: other nodes deep-copy
# options, and a copied function is the same object. While torch compiles they do nothing: what they did would be
# replayed in other calls.


def enter_attn1(n: Tensor, context: Tensor, value: Tensor, extra_options: Options) -> AttentionInputs:
    """attn1_patch, see `_enter`."""
    return _enter("attn1", n, context, value, extra_options)


def enter_attn2(n: Tensor, context: Tensor, value: Tensor, extra_options: Options) -> AttentionInputs:
    """attn2_patch, see `_enter`."""
    return _enter("attn2", n, context, value, extra_options)


def leave_attn1(n: Tensor, extra_options: Options) -> Tensor:
    """attn1_output_patch, see `_leave`."""
    return _leave("attn1", n, extra_options)


def leave_attn2(n: Tensor, extra_options: Options) -> Tensor:
    """attn2_output_patch, see `_leave`."""
    return _leave("attn2", n, extra_options)


_ENTER: dict[Slot, Patch] = {"attn1": enter_attn1, "attn2": enter_attn2}
_LEAVE: dict[Slot, Patch] = {"attn1": leave_attn1, "attn2": leave_attn2}


class PatchedCall:
    """A network call as the patches see it: the core's decisions, and this call's own copy of the replacements."""

    def __init__(self, call: ForwardCall, replacements: Options, is_alone: bool) -> None:
        """
        Args:
            call: decides.
            replacements: the host's `patches_replace`, to be changed.
            is_alone: whether no other node patches what goes into self-attention.
        """
        self.is_alone = is_alone
        self.call = call
        self._replacements = replacements
        self._set_aside: Options = {}
        self._kind: AttentionKind = SELF_ATTENTION

    def enter(self, slot: Slot, n: Tensor, context: Tensor, extra_options: Options) -> None:
        """Before an attention: where it is skipped, its replacement by another node is skipped too.

        The host asks for the replacement after the patches, and calls it in place of the module: that is why it is
        taken out of this call's copy, and put back behind the attention.
        """
        # Some models attend to the text in attn1 as well, some to themselves in attn2: what counts is what is attended.
        self._kind = SELF_ATTENTION if context is n else CROSS_ATTENTION
        block, block_index = (slot, extra_options.get("block")), extra_options.get("block_index", 0)
        self.call.pending = self.call.reuse(self._kind, block, block_index, n)
        if self.call.pending is not None and slot in self._replacements:
            self._set_aside[slot] = self._replacements.pop(slot)

    def leave(self, slot: Slot, n: Tensor) -> Tensor:
        """After an attention."""
        if slot in self._set_aside:
            self._replacements[slot] = self._set_aside.pop(slot)
        reused, self.call.pending = self.call.pending, None
        return self.call.capture(self._kind, n) if reused is None else reused


def add_patches(model: ModelPatcher) -> None:
    """Register the four patches on a clone of the user's model, each once."""
    present = model.model_options["transformer_options"].get("patches", {})
    setters = {
        "attn1_patch": (model.set_model_attn1_patch, enter_attn1),
        "attn1_output_patch": (model.set_model_attn1_output_patch, leave_attn1),
        "attn2_patch": (model.set_model_attn2_patch, enter_attn2),
        "attn2_output_patch": (model.set_model_attn2_output_patch, leave_attn2),
    }
    for name, (set_patch, patch) in setters.items():
        if patch not in present.get(name, ()):
            set_patch(patch)


def arranged(transformer_options: Options, call: ForwardCall) -> Options:
    """This network call's options, with T-GATE's patches around all others at the attentions that it gates.

    As they are where T-GATE put no patches on the model: in other networks than UNets the same names of patches stand
    for other things.
    """
    transformer_options = {key: value for key, value in transformer_options.items() if key != INPUT_KEY}
    if not _has_own_patches(transformer_options):
        return transformer_options
    replacements = dict(transformer_options.get("patches_replace", {}))
    is_alone = len(transformer_options["patches"]["attn1_patch"]) == 1
    patched = PatchedCall(call, replacements, is_alone)
    options = {**transformer_options, CALL_KEY: patched, "patches_replace": replacements}
    patches = options["patches"] = dict(transformer_options["patches"])
    for slot, enter in _ENTER.items():
        before, after, leave = f"{slot}_patch", f"{slot}_output_patch", _LEAVE[slot]
        patches[before] = [enter, *_standing_aside(patched, patches.get(before, ()), enter)]
        patches[after] = [*_standing_aside(patched, patches.get(after, ()), leave), leave]
    return options


def _standing_aside(patched: PatchedCall, patches: Iterable[Patch], own: Patch) -> Iterator[Patch]:
    """The patches of other nodes, standing aside where the attention is skipped."""
    return (_unless_skipped(patched, patch) for patch in patches if patch is not own)


def _has_own_patches(transformer_options: Options) -> bool:
    return enter_attn1 in transformer_options.get("patches", {}).get("attn1_patch", ())


def are_attentions_patched(transformer_options: Options) -> bool:
    """Whether another node patches, or replaces, a UNet's attentions."""
    patches, own = transformer_options.get("patches", {}), (*_ENTER.values(), *_LEAVE.values())
    names = [name for slot in _ENTER for name in (f"{slot}_patch", f"{slot}_output_patch")]
    is_replaced = any(transformer_options.get("patches_replace", {}).get(slot) for slot in _ENTER)
    return is_replaced or any(patch not in own for name in names for patch in patches.get(name, ()))


def without_own(transformer_options: Options) -> Options:
    """The options as they would be without T-GATE: none of its patches runs, and nothing shows that they were there.

    A compiled network may have been told not to look at its options again. Once T-GATE is bypassed it would ask for
    whatever it has seen there, so it must not see ours.
    """
    options = {key: value for key, value in transformer_options.items() if key not in OWN_KEYS}
    if not _has_own_patches(options):
        return options
    own = (*_ENTER.values(), *_LEAVE.values())
    others = {name: [patch for patch in present if patch not in own] for name, present in options["patches"].items()}
    options["patches"] = {name: present for name, present in others.items() if present}
    if not options["patches"]:
        del options["patches"]
    return options


def _unless_skipped(patched: PatchedCall, patch: Patch) -> Patch:
    """`patch`, standing aside where the attention is skipped: its inputs come back as they are."""

    def conditional_patch(*args: Any) -> Any:
        if patched.call.pending is None:
            return patch(*args)
        *inputs, _extra_options = args
        return inputs[0] if len(inputs) == 1 else tuple(inputs)

    return conditional_patch
