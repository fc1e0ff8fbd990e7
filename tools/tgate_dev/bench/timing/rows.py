"""The rows: what is sampled beside the plain model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from comfy.model_patcher import ModelPatcher

from ..pack import pack_core
from .host_nodes import host_node, node_patch
from .peers import GateAt
from .records import Oracle, Row
from .sampling import sigmas

SELF, CROSS = "attn1", "attn2"
PRESET_OF_THE_GATE = "balanced"
# The paper's rule for models that it has no settings for: gate at three fifths, self-attention every fifth step.
SELF_GATE = 0.6
SELF_INTERVAL = 5
SELF_WARM_UP = 2
# As published for SDXL.
DEEP_CACHE = {"cache_interval": 3, "cache_branch_id": 0}
BISECTIONS = 60


@dataclass(frozen=True)
class OwnNodes:
    """The pack's nodes.

    Attributes:
        classes: by id.
    """

    classes: Mapping[str, type[Any]]

    @property
    def presets(self) -> tuple[str, ...]:
        """Names of the presets."""
        return tuple(pack_core(self.classes)("presets").PRESETS)

    def gate(self, model: ModelPatcher, steps: int) -> GateAt:
        """Where the preset gates this model, in a run with guidance."""
        core = pack_core(self.classes)
        family = core("host.networks").family_of(model)
        step = core("gate.presets").PresetConfig(family, PRESET_OF_THE_GATE).resolve(steps, True).gate
        schedule = sigmas(model, steps).tolist()
        percent_to_sigma = model.get_model_object("model_sampling").percent_to_sigma
        return GateAt(step, percent_between(percent_to_sigma, schedule[step - 1], schedule[step]), steps)


def percent_between(percent_to_sigma: Callable[[float], float], above: float, below: float) -> float:
    """A share of the noise schedule whose sigma lies between two: where that of a step and of the next one differ.

    Args:
        percent_to_sigma: falls from a high sigma at 0 to a low one at 1.
        above: the higher sigma.
        below: the lower one.
    """
    low, high, wanted = 0.0, 1.0, (above + below) / 2
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if percent_to_sigma(middle) > wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def make_rows(own: OwnNodes, gate: GateAt) -> tuple[list[Row], list[str]]:
    """All rows but those of peers, the plain one first, and what is to be said about those that are missing."""
    remarks = []
    rows = [Row("plain", lambda model: model)]
    override = host_node("CFGOverride")
    if override is None:
        remarks.append("This ComfyUI has no CFG Override node: its row is left out.")
    else:
        patch = node_patch(override, cfg=1.0, start_percent=gate.percent)
        rows.append(Row(f"CFG Override, cfg 1 from step {gate.step}", patch, Oracle(frozenset(), branches=1)))
    rows += [*_preset_rows(own), *_single_rows(own, gate), *_deep_cache_rows(own)]
    easy_cache = host_node("EasyCache")
    if easy_cache is not None:
        rows.append(Row("EasyCache", node_patch(easy_cache)))
        remarks.append(
            "EasyCache decides by what the network gives: on random weights its share of skipped steps means little."
        )
    return rows, remarks


def _preset_rows(own: OwnNodes) -> list[Row]:
    oracle = Oracle(frozenset({CROSS}), branches=1)
    node = own.classes["TGATEApply"]
    return [Row(f"TGATE Apply, {preset}", node_patch(node, preset=preset), oracle) for preset in own.presets]


def _single_rows(own: OwnNodes, gate: GateAt) -> list[Row]:
    """What each part of the method does alone."""
    node = own.classes["TGATEApplyAdvanced"]
    off = {"cross_attention": False, "self_attention": False, "guidance": "keep"}
    at = {"gate": float(gate.step), "sp_interval": 1, "warm_up": 0}
    self_gate = round(SELF_GATE * gate.steps)
    self_at = {"gate": float(self_gate), "sp_interval": SELF_INTERVAL, "warm_up": SELF_WARM_UP}
    cross = node_patch(node, **{**off, **at, "cross_attention": True})
    itself = node_patch(node, **{**off, **self_at, "self_attention": True})
    guidance = node_patch(node, **{**off, **at, "guidance": "cached_delta"})
    return [
        Row(f"Advanced, only cross-attention from {gate.step}", cross, Oracle(frozenset({CROSS}), branches=2)),
        Row(
            f"Advanced, only self-attention, sp {SELF_INTERVAL} before {self_gate}",
            itself,
            Oracle(frozenset({SELF}), branches=2),
        ),
        Row(f"Advanced, only guidance from {gate.step}", guidance, Oracle(frozenset(), branches=1)),
    ]


def _deep_cache_rows(own: OwnNodes) -> list[Row]:
    node = own.classes.get("TGATEDeepCache")
    if node is None:
        return []
    deep_cache, apply = node_patch(node, **DEEP_CACHE), node_patch(own.classes["TGATEApply"])
    return [
        Row("TGATE DeepCache", deep_cache),
        Row(f"TGATE DeepCache + Apply, {PRESET_OF_THE_GATE}", lambda model: apply(deep_cache(model))),
    ]
