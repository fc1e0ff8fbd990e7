"""The rows of the time table."""

from __future__ import annotations

import importlib
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from comfy.model_patcher import ModelPatcher

from ...errors import UserError
from ..pack import CROSS_ATTENTION, SELF_ATTENTION, Nodes, load_nodes, pack_core, preset, presets
from .results import Oracle, Row
from .sampling import sigmas

# The paper's rule for models without published settings: gate at three fifths, self-attention every fifth step.
SELF_GATE = 0.6
# As published for SDXL.
DEEP_CACHE = {"cache_interval": 3, "cache_branch_id": 0}
NOTHING_GATED = {
    "cross_attention": False,
    "self_attention": False,
    "guidance": "keep",
    "gate_unit": "step",
    "refresh": "never",
    "sp_interval": 1,
    "warm_up": 0,
}
ONE_BRANCH = Oracle(frozenset(), branches=1)
GATED = Oracle(frozenset({CROSS_ATTENTION}), branches=1)
NO_CROSS_ATTENTION = Oracle(frozenset({CROSS_ATTENTION}), branches=2)
NO_SELF_ATTENTION = Oracle(frozenset({SELF_ATTENTION}), branches=2)
PERCENT_PARTS = 1000  # as fine as the host's nodes take it

Patch = Callable[[ModelPatcher], ModelPatcher]


class Gate(NamedTuple):
    """The common gate: its step, the steps of a run, and its place in the noise schedule (0 to 1)."""

    step: int
    steps: int
    percent: float


def usual_gate(model: ModelPatcher, steps: int, nodes: Nodes) -> Gate:
    """The published gate for a model, in a run with guidance."""
    schedule = sigmas(model, steps)
    step = int(replace(preset(model, nodes), preset="as published").resolve(schedule, True).gate.gate)
    between = float(schedule[step - 1] + schedule[step]) / 2
    to_sigma = model.get_model_object("model_sampling").percent_to_sigma
    place = bisect_left(range(PERCENT_PARTS), -between, key=lambda part: -to_sigma(part / PERCENT_PARTS))
    return Gate(step, steps, place / PERCENT_PARTS)


def make_rows(nodes: Nodes, gate: Gate, model: ModelPatcher | None = None) -> Iterator[Row]:
    """All rows except those of other packs, the plain one first; given a model, those alone that it can follow."""
    yield Row("plain", lambda model: model)
    override = getattr(importlib.import_module("comfy_extras.nodes_custom_sampler"), "CFGOverride", None)
    if override is not None:  # older hosts do not have it
        patch = node_patch(override, cfg=1.0, start_percent=gate.percent)
        yield Row(f"CFG Override, cfg 1 from step {gate.step}", patch, ONE_BRANCH)
    core = pack_core(nodes)
    has_published = model is None or core("host.networks").scope_of(model) == "all"
    names = [name for name in presets(nodes) if has_published or name != core("presets").PUBLISHED]
    apply = {name: node_patch(nodes["TGATEApply"], preset=name) for name in names}
    yield from (Row(f"TGATE Apply, {name}", patch, GATED) for name, patch in apply.items())
    yield from _single_rows(nodes["TGATEApplyAdvanced"], gate)
    deep_cache, (usual, *_) = node_patch(nodes["TGATEDeepCache"], **DEEP_CACHE), apply
    yield Row("TGATE DeepCache", deep_cache)
    yield Row(f"TGATE DeepCache + Apply, {usual}", lambda model: apply[usual](deep_cache(model)))
    yield Row("EasyCache", node_patch(importlib.import_module("comfy_extras.nodes_easycache").EasyCacheNode))


def _single_rows(node: type[Any], gate: Gate) -> Iterator[Row]:
    """Each part of the method on its own."""
    only = partial(node_patch, node, **NOTHING_GATED)
    at, self_at = gate.step, round(SELF_GATE * gate.steps)
    cross = only(gate=float(at), cross_attention=True)
    yield Row(f"Advanced, only cross-attention from {at}", cross, NO_CROSS_ATTENTION)
    own = only(gate=float(self_at), self_attention=True, sp_interval=5, warm_up=2)
    yield Row(f"Advanced, only self-attention, sp 5 before {self_at}", own, NO_SELF_ATTENTION)
    yield Row(f"Advanced, only guidance from {at}", only(gate=float(at), guidance="cached_delta"), ONE_BRANCH)


def peer_rows(folders: Sequence[Path], gate: Gate) -> Iterator[Row]:
    """A row for each known node of the packs in these folders; of their nodes, only names and inputs are known here.

    Raises:
        UserError: a folder holds no known node that ComfyUI can load.
    """
    known: dict[str, tuple[str, dict[str, Any], Oracle | None]] = {
        "TGateApplySimple": ("JettHu/ComfyUI_TGate", {"start_at": gate.percent}, GATED),
        # The published interval, the shallowest branch.
        "DeepCache": ("ComfyUI-deepcache", {"cache_interval": 3, "cache_depth": 0}, None),
        "SpectrumSDXL": ("ComfyUI-Spectrum-sdxl", {}, None),
        "SpectrumApplySDXL": ("ComfyUI-Spectrum-SDXL-Proper", {}, None),
    }
    for folder in folders:
        classes = load_nodes(folder.absolute())
        found = known.keys() & classes
        if not found:
            there = ", ".join(sorted(classes)) or "nothing that ComfyUI can load"
            raise UserError(f"--peers {folder}: it should hold {' or '.join(known)}, but holds {there}.")
        for name in sorted(found):
            pack, inputs, oracle = known[name]
            yield Row(f"{pack}: {name}", node_patch(classes[name], **inputs), oracle, is_foreign=True)


def node_patch(node: type[Any], **chosen: Any) -> Patch:
    """Applies a node, of either of the host's interfaces, to a model; inputs not given take their defaults."""

    def apply(model: ModelPatcher) -> ModelPatcher:
        inputs = {**defaults(node.INPUT_TYPES()), **chosen, "model": model}
        is_new = hasattr(node, "define_schema")
        outputs = node.execute(**inputs).args if is_new else getattr(node(), node.FUNCTION)(**inputs)
        return outputs[0]

    return apply


def defaults(groups: Mapping[str, Mapping[str, tuple[Any, ...]]]) -> dict[str, Any]:
    """Default inputs from a node's INPUT_TYPES."""
    found = {}
    for name, (kind, *options) in {**groups.get("required", {}), **groups.get("optional", {})}.items():
        if options and "default" in options[0]:
            found[name] = options[0]["default"]
        elif isinstance(kind, list):
            found[name] = kind[0]
    return found
