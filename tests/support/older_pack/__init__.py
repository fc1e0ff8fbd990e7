"""A pack that has the older T-GATE pack's node ids: each node hands its model on and says so in the log."""

from __future__ import annotations

import logging
from typing import Any


class OlderNode:
    """What the three ids have in common."""

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "apply_tgate"
    CATEGORY = "older"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - the host's name
        values = {"self_attn_start_at": ("FLOAT", {}), "only_cross_attention": ("BOOLEAN", {})}
        return {
            "required": {"model": ("MODEL",), "start_at": ("FLOAT", {})},
            "optional": {**values, "use_cpu_cache": ("BOOLEAN", {})},
        }

    def apply_tgate(self, model: Any, start_at: float, **others: Any) -> tuple[Any]:
        logging.info("older pack: start_at %s", start_at)
        return (model,)


NODE_CLASS_MAPPINGS = {
    name: type(name, (OlderNode,), {}) for name in ("TGateApply", "TGateApplySimple", "TGateApplyAdvanced")
}
