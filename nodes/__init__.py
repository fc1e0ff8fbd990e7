"""The nodes of the pack."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .apply import TGATEApply
from .apply_advanced import TGATEApplyAdvanced
from .deep_cache import TGATEDeepCache
from .forecast import TGATEForecast
from .preview import add_routes
from .probe import TGATEConvergencePlot, TGATEProbe
from .probe_files import TGATELoadProbe, TGATESaveProbe
from .replacements import register
from .report import TGATEReport

NODES: list[type[io.ComfyNode]] = [
    TGATEApply,
    TGATEApplyAdvanced,
    TGATEDeepCache,
    TGATEForecast,
    TGATEReport,
    TGATEProbe,
    TGATEConvergencePlot,
    TGATESaveProbe,
    TGATELoadProbe,
]


class TGATEExtension(ComfyExtension):
    """Hands the nodes to ComfyUI."""

    async def on_load(self) -> None:
        """Tells the server what it is to know before it starts: our routes, and which older nodes ours stand in for."""
        add_routes()
        await register()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """All nodes of the pack."""
        return NODES
