"""Joint attention that stands inline in a block: reached by the host's override of its attention function.

The override is given queries, keys and values, and what it returns goes on in place of the attention's output. So the
projections before it and behind it run; what is left out is the attention itself. It is put into the options of a
network call that captures or reuses, around whichever override is there by then.

An attention is known by the block that it stands in. Some networks have the type and the number of the block in their
options. For the others the host's replacement of blocks is used, which is given each block by its key: ours calls what
would have run, with the block written into its options. An attention of no block, or of one that was told twice, is
computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..engine.actions import SELF_ATTENTION
from ..engine.cache import Form
from ..engine.forward import ForwardCall
from .architectures import Block, architecture_of
from .attention import Options
from .keys import BLOCK_KEY

OVERRIDE = "optimized_attention_override"
# The host's name of block replacements in networks other than UNets.
_REPLACEMENTS = "dit"
# The host's name of patches behind an attention.
_OUTPUT_PATCH = "attn1_output_patch"
Attention = Callable[..., Any]
InlineSites = Mapping[Block, Sequence[str]]


def arranged_inline(network: Any, sites: InlineSites, call: ForwardCall, transformer_options: Options) -> Options:
    """A network call's options, with an override that captures and reuses.

    Args:
        network: the network that is called.
        sites: names of its attentions that stand inline, by block; where there are none the options stay as they are.
        call: decides.
        transformer_options: the host's, of the call.
    """
    if not sites:
        return transformer_options
    known, options = architecture_of(network), dict(transformer_options)
    if known is not None and not known.has_numbers:
        by_network = options.get("patches_replace", {})
        others = by_network.get(_REPLACEMENTS, {})
        ours = {(f"{kind}_block", number): _numbered((kind, number), others) for kind, number in sites}
        options["patches_replace"] = {**by_network, _REPLACEMENTS: {**others, **ours}}
    options[OVERRIDE] = InlineAttention(call, sites, transformer_options.get(OVERRIDE))
    return options


def _numbered(block: Block, others: Mapping[Hashable, Attention]) -> Attention:
    """A replacement of a block that runs the block, or another node's replacement, with its number in the options."""
    other = others.get((f"{block[0]}_block", block[1]))

    def run_block(args: Options, extra: Options) -> Any:
        numbered = {**args, "transformer_options": {**args["transformer_options"], BLOCK_KEY: block}}
        return extra["original_block"](numbered) if other is None else other(numbered, extra)

    return run_block


class InlineAttention:
    """The override of one network call."""

    def __init__(self, call: ForwardCall, sites: InlineSites, other: Attention | None) -> None:
        """
        Args:
            call: decides.
            sites: names of the attentions, by block, in the order in which the block comes to them.
            other: another node's override; it is what computes.
        """
        self._call = call
        self._sites = sites
        self._other = other
        self._visits: Counter[Block] = Counter()

    def __call__(self, attention: Attention, *args: Any, **kwargs: Any) -> Any:
        """What an attention returns, or the capture in its place; the arguments are the host's, `attention` the rest.

        Positional: q, k, v, (B, tokens, heads * width) or (B, heads, tokens, width), and the number of heads.
        """
        call = self._call
        if not call.is_active or torch.compiler.is_compiling():
            return self._compute(attention, args, kwargs)
        options: Options = kwargs.get("transformer_options") or {}
        site, form = self._site(options), output_form(*args, **kwargs)
        if site is None or form is None:
            return self._compute(attention, args, kwargs)
        call.has_run = True
        output = call.reuse(SELF_ATTENTION, site, 0, form)
        if output is None:
            call.computed += 1
            output = self._compute(attention, args, kwargs)
            if not isinstance(output, Tensor) or output.shape != form.shape:
                call.has_misfit = True
                return output
            output = call.capture(SELF_ATTENTION, output)
        # A patch of another node comes behind the capture, and may write into what it is given.
        return output.clone() if _OUTPUT_PATCH in options.get("patches", {}) else output

    def _compute(self, attention: Attention, args: Any, kwargs: Any) -> Any:
        return attention(*args, **kwargs) if self._other is None else self._other(attention, *args, **kwargs)

    def _site(self, options: Options) -> str | None:
        """The attention that the network has come to, by its name; None where that is not known."""
        block: Any = options.get(BLOCK_KEY) or (options.get("block_type"), options.get("block_index"))
        names = self._sites.get(block, ())
        if not names:
            return None
        visits = self._visits[block]
        self._visits[block] += 1
        if visits >= len(names):  # another node runs the block again, on something unknown
            self._call.note_another_run()
            return None
        return names[visits]


def output_form(
    q: Any,
    _k: Any = None,
    v: Any = None,
    heads: int = 0,
    *_others: Any,
    skip_reshape: bool = False,
    skip_output_reshape: bool = False,
    **_options: Any,
) -> Form | None:
    """Form of what the host's attention makes of these; None where they are not what it is given."""
    if not isinstance(q, Tensor) or not isinstance(v, Tensor) or q.ndim != (4 if skip_reshape else 3):
        return None
    if not skip_reshape:
        batch, tokens, width = q.shape
        shape: tuple[int, ...] = (batch, tokens, width)
        if skip_output_reshape:
            shape = (batch, heads, tokens, width // max(1, heads))
        return Form(shape, v.dtype, v.device)
    batch, heads, tokens, _ = q.shape
    width = v.shape[-1]
    shape = (batch, heads, tokens, width) if skip_output_reshape else (batch, tokens, heads * width)
    return Form(shape, v.dtype, v.device)
