"""What a node has to say in the editor: a remark on its model, and what became of each run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from comfy_api.latest import io
from comfy_execution.utils import get_executing_context
from server import PromptServer

from ..tgate_core.host.install import Applied
from ..tgate_core.host.reporting import TELL_US, harmless
from ..tgate_core.report.record import RunRecord
from ..tgate_core.report.text import summary_text
from ..tgate_core.report.timeline import as_groups

# Sent to the editor when a run is over.
RUN_EVENT = "tgate.run"


def output(applied: Applied, hidden: Any, *further: Any) -> io.NodeOutput:
    """The node's output, its remark shown under it in the editor that queued it, if one did.

    Args:
        applied: the model, and the remark if there is one.
        hidden: the node's hidden inputs, `io.Hidden.unique_id` among them; None outside of a server.
        further: outputs beside the model.
    """
    node_id = node_id_of(hidden)
    if applied.remark is not None and node_id is not None:
        server = PromptServer.instance
        with harmless("showing a remark in the editor", f"The log has the remark; {TELL_US}"):
            if server.client_id is not None:  # without one, the host tells every open editor, whatever it shows
                server.send_progress_text(applied.remark, node_id, server.client_id)
    return io.NodeOutput(applied.model, *further)


def announcer(hidden: Any) -> Callable[[RunRecord], None] | None:
    """Tells the editor that queued it of each run of this node's model; None outside of a server.

    Args:
        hidden: the node's hidden inputs.
    """
    node_id = node_id_of(hidden)
    return None if node_id is None else partial(_announce, node_id)


def node_id_of(hidden: Any) -> str | None:
    """The id of a node in its graph; None outside of a server."""
    return getattr(hidden, "unique_id", None)


def _announce(node_id: str, record: RunRecord) -> None:
    server, context = PromptServer.instance, get_executing_context()
    if server.client_id is None:
        return
    where = {"node_id": node_id, "sampler_id": None, "workflow_id": None}
    if context is not None:
        where |= {"sampler_id": context.node_id, "workflow_id": workflow_id(server, context.prompt_id)}
    server.send_sync(RUN_EVENT, {**where, **run_as_json(record)}, server.client_id)


def run_as_json(record: RunRecord) -> dict[str, Any]:
    """A run as plain values, for the editor."""
    return {
        "family": record.family,
        "groups": as_groups(record.cells),
        "gate_step": record.gate_step,
        "summary": summary_text(record),
        "notes": list(record.counts.notes),
        "seconds": round(record.seconds, 3),
        "was_interrupted": record.was_interrupted,
    }


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
