"""What the server's queue knows about the graph that runs now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def workflow_id(server: Any, prompt_id: str) -> str | None:
    """The id that the editor gave the graph of a running prompt; None where it was queued without its graph.

    Nodes in two open graphs can have the same id: this tells them apart.

    Args:
        server: the host's PromptServer.
        prompt_id: the host's id of the prompt.
    """
    running, _ = server.prompt_queue.get_current_queue_volatile()
    # An entry is (number, prompt id, prompt, extra data, …).
    extra: Any = next((entry[3] for entry in running if entry[1] == prompt_id), None)
    for name in ("extra_pnginfo", "workflow", "id"):
        extra = extra.get(name) if isinstance(extra, Mapping) else None
    return extra if isinstance(extra, str) else None
