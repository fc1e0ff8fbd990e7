"""Graphs made for an older T-GATE pack (JettHu/ComfyUI_TGate): they open and run with this pack's node.

The host replaces a node only where nothing else provides it, so that pack keeps its nodes wherever it is installed.
"""

from __future__ import annotations

from typing import Any

from comfy_api.latest import ComfyAPI, io
from server import PromptServer

NEW_NODE = "TGATEApplyAdvanced"
# The values of the older nodes in the order in which a saved graph has them.
OLD_NODES: dict[str, list[str]] = {
    "TGateApply": ["start_at", "only_cross_attention", "self_attn_start_at", "use_cpu_cache"],
    "TGateApplySimple": ["start_at", "use_cpu_cache"],
    "TGateApplyAdvanced": ["start_at", "self_attn_start_at", "only_cross_attention", "use_cpu_cache"],
}
# What the older nodes always do: from the gate on, one pass with the prompt on the mean of what both passes last said.
# Their self-attention, reused at the end of the run where detail is made, is computed instead. `use_cpu_cache` cannot
# be translated (a yes or no into a choice); `auto` moves captures off the card when its memory runs short.
FIXED: dict[str, Any] = {
    "gate_unit": "percent of schedule",
    "sp_interval": 1,
    "fi_interval": 1,
    "warm_up": 0,
    "cross_attention": True,
    "self_attention": False,
    "guidance": "cond_mean",
    "protect_last": 0,
    "cache_device": "auto",
    "cache_limit_mb": 0,
    "refresh": "never",
    "refresh_gap": 2,
    "refresh_tolerance": 0.7,
}


def replacements() -> list[io.NodeReplace]:
    """One replacement for each of the older nodes, as the host wants them.

    Inputs that the older nodes may leave out are not mapped: the host refuses a prompt that lacks a mapped one.
    """
    return [_replacement(old_id, widgets) for old_id, widgets in OLD_NODES.items()]


async def register() -> None:
    """Tell the host; without a server (a program that only loads the nodes) there is nobody to tell."""
    if getattr(PromptServer, "instance", None) is None:
        return
    api = ComfyAPI()
    for replacement in replacements():
        await api.node_replacement.register(replacement)


def _replacement(old_id: str, widgets: list[str]) -> io.NodeReplace:
    return io.NodeReplace(
        new_node_id=NEW_NODE,
        old_node_id=old_id,
        old_widget_ids=widgets,
        input_mapping=[
            {"new_id": "model", "old_id": "model"},
            {"new_id": "gate", "old_id": "start_at"},
            *({"new_id": name, "set_value": value} for name, value in FIXED.items()),
        ],
        output_mapping=[{"new_idx": 0, "old_idx": 0}],
    )
