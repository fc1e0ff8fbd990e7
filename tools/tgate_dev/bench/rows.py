"""Counting the published table's rows through the pack's nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from comfy.model_patcher import ModelPatcher

from .macs import count_macs
from .models import build_on_meta
from .published import PublishedRow, Setting
from .shapes import Macs

# How far a row may be off. The table's numbers are rounded, and were counted on other implementations of the models.
TOLERANCE = 1e-3


def gate(nodes: Mapping[str, Any], patcher: ModelPatcher, setting: Setting, guidance: str = "uncond") -> ModelPatcher:
    """The model as the node returns it; by default with the published guidance.

    Args:
        nodes: the pack's node classes by id.
        patcher: the model.
        setting: when to gate.
        guidance: what remains of guidance after the gate.
    """
    output = nodes["TGATEApplyAdvanced"].execute(
        model=patcher, **asdict(setting), gate_unit="step", guidance=guidance, cache_device="model"
    )
    gated: ModelPatcher = output.args[0]
    return gated


def row_macs(row: PublishedRow, nodes: Mapping[str, Any]) -> Macs:
    """What the run of a row costs."""
    patcher = build_on_meta(row.model)
    if row.has_deep_cache:
        patcher = nodes["TGATEDeepCache"].execute(model=patcher).args[0]
    if row.setting is not None:
        patcher = gate(nodes, patcher, row.setting)
    return count_macs(patcher, row.model, steps=row.steps, cfg=row.cfg, sampler=row.sampler, scheduler=row.scheduler)
