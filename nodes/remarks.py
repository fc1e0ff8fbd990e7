"""What a node has to say about its model, under the node itself."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from server import PromptServer

from ..tgate_core.comfy_host.install import Applied


def output(applied: Applied, hidden: Any) -> io.NodeOutput:
    """The node's output, its remark shown under it in the editor where it runs in one.

    Args:
        applied: the model, and the remark if there is one.
        hidden: the node's hidden inputs, `io.Hidden.unique_id` among them; None outside of a server.
    """
    node_id = getattr(hidden, "unique_id", None)
    if applied.remark is not None and node_id is not None:
        PromptServer.instance.send_progress_text(applied.remark, node_id)
    return io.NodeOutput(applied.model)
