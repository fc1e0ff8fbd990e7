"""T-GATE for ComfyUI."""

from __future__ import annotations

from .nodes import TGATEExtension

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> TGATEExtension:
    """What ComfyUI calls to get the nodes."""
    return TGATEExtension()
