"""What one call of a model's network costs, counted on a copy of it that has shapes and no weights (fake tensors).

Nothing is counted while a picture is made: a record keeps the shapes of the network's arguments, and a node that wants
to know runs those through the copy, which takes no memory and computes nothing.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from comfy.ldm.modules.attention import attention_pytorch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ..deepcache.technique import DeepCache
from ..engine.actions import ATTENTION_KINDS, CROSS_ATTENTION, SELF_ATTENTION, AttentionKind
from ..engine.counts import CallShape
from ..report.cost import RowCost, RunCost, run_cost
from ..report.record import RunRecord
from .architectures import UNET, architecture_of, attention_sites
from .macs import Macs, MacsCounter
from .networks import inline_blocks, transformer_blocks
from .run_start import techniques_of
from .unet_blocks import deep_layers

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

_LAYERS: Callable[[Macs], int] = attrgetter("layers")
_PRODUCTS: Callable[[Macs], int] = attrgetter("attention")
UNCOUNTABLE = "counting runs the network on shapes alone, which this one does not allow"


class UncountableError(Exception):
    """The network cannot be run on shapes alone; the text says why."""


def count_run(model: ModelPatcher, record: RunRecord) -> RunCost:
    """MACs of a run that is over, see `row_costs`."""
    return run_cost(record.counts, row_costs(model, record))


def row_costs(model: ModelPatcher, record: RunRecord) -> dict[CallShape, RowCost]:
    """MACs of one row of each shape of call in a run that is over.

    Args:
        model: the MODEL that was sampled.
        record: what is known of the run.

    Raises:
        UncountableError: the network cannot be run on shapes alone.
    """
    techniques = techniques_of(model.model_options["transformer_options"])
    branch = next((one.config.cache_branch_id for one in techniques if isinstance(one, DeepCache)), 0)
    try:
        fake = FakeTensorMode(allow_non_fake_inputs=True)
        copied = copy_without_weights(model.model, fake)
        with fake:
            shapes = {shape for shape, _ in record.counts.rows}
            return {shape: _row_cost(copied, record.call_templates[shape], branch) for shape in shapes}
    except UncountableError:
        raise
    except Exception as error:  # whatever a network does that shapes alone do not allow
        raise UncountableError(f"{UNCOUNTABLE}: {type(error).__name__} {error}") from error


def copy_without_weights(base: Any, fake: FakeTensorMode) -> Any:
    """The host's model, in place of its parameters fake tensors of the same shapes on the CPU."""
    memo: dict[int, Any] = {}
    with fake:
        for parameter in base.parameters():
            empty = torch.empty(parameter.shape, dtype=parameter.dtype)
            memo[id(parameter)] = nn.Parameter(empty, requires_grad=False)
        for buffer in base.buffers():
            memo[id(buffer)] = torch.empty(buffer.shape, dtype=buffer.dtype)
    # Neither belongs to the network, and a patcher holds all that was ever patched.
    for outside in (getattr(base, "current_patcher", None), base.model_config):
        memo[id(outside)] = outside
    copied = copy.deepcopy(base, memo)
    for module in copied.modules():
        # A replaced `forward`, ours or another node's, belongs to the original.
        module.__dict__.pop("forward", None)
        # Some networks move a layer to where its input is; fake parameters cannot be moved, and need not be.
        module.__dict__["to"] = partial(_as_it_is, module)
    return copied


def _as_it_is(module: nn.Module, *_args: Any, **_kwargs: Any) -> nn.Module:
    return module


def _row_cost(base: Any, template: Any, branch: int) -> RowCost:
    if template is None:
        raise UncountableError("its network takes arguments that cannot be kept")
    x, timestep, concat, text, keywords = _on_cpu(template)
    # Kernels of the user's choice may not know fake tensors.
    options = {"optimized_attention_override": lambda _, *args, **kwargs: attention_pytorch(*args, **kwargs)}
    network = base.diffusion_model
    deep, attentions = list(deep_layers(network, branch)), _attentions(network)
    in_deep = {id(module) for layer in deep for module in layer.modules()}
    parts = [*deep, *(module for modules in attentions.values() for module in modules)]
    inline = inline_blocks(network)
    # Of an attention that stands inline, the two products alone are left out, which the paper does not count.
    of_part = _PRODUCTS if inline else _LAYERS
    with torch.no_grad(), MacsCounter() as counter, _counted_apart(counter, [*parts, *inline], of_part) as of:
        base._apply_model(x, timestep, concat, text, None, options, **keywords)

    def per_row(modules: Iterable[nn.Module]) -> float:
        return sum(of[id(module)] for module in modules) / x.shape[0]

    if inline:
        products = {SELF_ATTENTION: per_row(inline), CROSS_ATTENTION: 0.0}
        return RowCost(counter.macs.full / x.shape[0], 0.0, products, products)
    return RowCost(
        whole=counter.macs.layers / x.shape[0],
        deep=per_row(deep),
        attention={kind: per_row(modules) for kind, modules in attentions.items()},
        shallow_attention={
            kind: per_row(module for module in modules if id(module) not in in_deep)
            for kind, modules in attentions.items()
        },
    )


@contextmanager
def _counted_apart(
    counter: MacsCounter, modules: Iterable[nn.Module], part: Callable[[Macs], int]
) -> Iterator[dict[int, int]]:
    """MACs of such a part within each of these modules, by id, counted while it lasts."""
    found: defaultdict[int, int] = defaultdict(int)

    def begin(module: nn.Module, _inputs: Any) -> None:
        found[id(module)] -= part(counter.macs)

    def end(module: nn.Module, _inputs: Any, _output: Any) -> None:
        found[id(module)] += part(counter.macs)

    hooks = [hook for m in modules for hook in (m.register_forward_pre_hook(begin), m.register_forward_hook(end))]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _on_cpu(value: Any) -> Any:
    """A template with CPU tensors of the same shapes."""
    if isinstance(value, torch.Tensor):
        return torch.empty(value.shape, dtype=value.dtype)
    if isinstance(value, dict):
        return {name: _on_cpu(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_on_cpu(item) for item in value)
    return value


def _attentions(network: nn.Module) -> dict[AttentionKind, list[nn.Module]]:
    known = architecture_of(network)
    found: dict[AttentionKind, list[nn.Module]] = {kind: [] for kind in ATTENTION_KINDS}
    if known is UNET:
        for block in transformer_blocks(network):
            found[SELF_ATTENTION].append(block.attn1)
            if block.attn2 is not None:
                found[CROSS_ATTENTION].append(block.attn2)
    elif known is not None:
        for site in attention_sites(network, known):
            found[site.rule.kind].append(site.module)
    return found
