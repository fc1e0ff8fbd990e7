"""What one call of a model's network costs, counted on a copy of it that has shapes and no weights (fake tensors).

Nothing is counted while a picture is made: a record keeps the shapes of the network's arguments, and a node that wants
to know runs those through the copy, which takes no memory and computes nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from comfy.ldm.modules.attention import attention_pytorch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from ..deepcache.technique import DeepCache
from ..engine.actions import ATTENTION_KINDS, CROSS_ATTENTION, SELF_ATTENTION, AttentionKind
from ..report.cost import RowCost, RunCost, run_cost
from ..report.record import RunRecord
from .architectures import UNET, architecture_of, attention_sites
from .networks import transformer_blocks
from .run_start import techniques_of
from .unet_blocks import deep_layers

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

UNCOUNTABLE = "counting runs the network on shapes alone, which this one does not allow"
# Operations per multiply-accumulate.
FLOPS_PER_MAC = 2
# Matrix products of attention itself go by other names; the paper's counter did not see them either.
_LAYER_OPERATIONS = ("mm", "addmm", "convolution", "_convolution")


class UncountableError(Exception):
    """The network cannot be run on shapes alone; the text says why."""


def count_run(model: ModelPatcher, record: RunRecord) -> RunCost:
    """MACs of a run that is over.

    Args:
        model: the MODEL that was sampled.
        record: what is known of the run.

    Raises:
        UncountableError: the network cannot be run on shapes alone.
    """
    techniques = techniques_of(model.model_options["transformer_options"])
    branch = next((one.config.cache_branch_id for one in techniques if isinstance(one, DeepCache)), 0)
    try:
        # Outside of the mode in which the host runs nodes: there torch shows layers in one piece, not as what they do.
        with torch.inference_mode(False):
            fake = FakeTensorMode(allow_non_fake_inputs=True)
            copied = copy_without_weights(model.model, fake)
            with fake:
                shapes = {shape for shape, _ in record.counts.rows}
                rows = {shape: _row_cost(copied, record.call_templates[shape], branch) for shape in shapes}
    except UncountableError:
        raise
    except Exception as error:  # whatever a network does that shapes alone do not allow
        raise UncountableError(f"{UNCOUNTABLE}: {type(error).__name__} {error}") from error
    return run_cost(record.counts, rows)


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
    return copied


def _row_cost(base: Any, template: Any, branch: int) -> RowCost:
    if template is None:
        raise UncountableError("its network takes arguments that cannot be kept")
    x, timestep, concat, text, keywords = _on_cpu(template)
    # Kernels of the user's choice may not know fake tensors.
    options = {"optimized_attention_override": lambda _, *args, **kwargs: attention_pytorch(*args, **kwargs)}
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        base._apply_model(x, timestep, concat, text, None, options, **keywords)
    counts = counter.get_flop_counts()
    network = base.diffusion_model
    names = {id(module): f"{type(base).__name__}.{name}" for name, module in base.named_modules()}
    # Modules that the counter met as the root of a call are listed without the path to them.
    prefix = type(network).__name__
    names |= {id(module): f"{prefix}.{name}" if name else prefix for name, module in network.named_modules()}

    def macs(modules: Iterable[nn.Module]) -> float:
        found = [counts.get(names[id(module)], {}) for module in modules]
        return sum(_layers(count) for count in found) / x.shape[0]

    deep = list(deep_layers(network, branch))
    in_deep = {id(module) for layer in deep for module in layer.modules()}
    attentions = _attentions(network)
    return RowCost(
        whole=_layers(counts["Global"]) / x.shape[0],
        deep=macs(deep),
        attention={kind: macs(modules) for kind, modules in attentions.items()},
        shallow_attention={
            kind: macs(module for module in modules if id(module) not in in_deep)
            for kind, modules in attentions.items()
        },
    )


def _on_cpu(value: Any) -> Any:
    """A template with CPU tensors of the same shapes."""
    if isinstance(value, torch.Tensor):
        return torch.empty(value.shape, dtype=value.dtype)
    if isinstance(value, dict):
        return {name: _on_cpu(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_on_cpu(item) for item in value)
    return value


def _layers(counts: Mapping[Any, int]) -> float:
    flops = sum(count for operation, count in counts.items() if _short_name(operation) in _LAYER_OPERATIONS)
    return flops / FLOPS_PER_MAC


def _short_name(operation: Any) -> str:
    """`mm` of `aten.mm`, with or without its overload."""
    return str(operation).removeprefix("aten.").split(".")[0]


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
