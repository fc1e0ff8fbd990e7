"""What a node has to say in the editor: a remark on its model, and what became of each run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

from comfy_api.latest import io
from comfy_execution.utils import get_executing_context
from server import PromptServer

from ..tgate_core.host.install import Applied
from ..tgate_core.host.reporting import TELL_US, harmless
from ..tgate_core.report.record import Listener, Remembered, RunRecord
from ..tgate_core.report.text import summary_text
from ..tgate_core.report.timeline import as_groups
from ..tgate_core.report.work import run_saving

# Sent to the editor when a run is over.
RUN_EVENT = "tgate.run"
# What our part of the editor keeps with a graph, in its `extra`.
EXTRA_KEY = "tgate"


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


def announcer(hidden: Any) -> Listener | None:
    """Tells the editor that queued it of each run of this node's model; None outside of a server.

    Args:
        hidden: the node's hidden inputs.
    """
    node_id = node_id_of(hidden)
    return None if node_id is None else Listener(partial(_announce, node_id), remembered)


def node_id_of(hidden: Any) -> str | None:
    """The id of a node in its graph; None outside of a server."""
    return getattr(hidden, "unique_id", None)


def _announce(node_id: str, record: RunRecord) -> None:
    server, context = PromptServer.instance, get_executing_context()
    if server.client_id is None:
        return
    sampler_id = None if context is None else context.node_id
    where = {
        "node_id": node_id,
        "sampler_id": sampler_id,
        "workflow_id": queued_workflow().get("id"),
        "loader": _mapping(_kept().get("loaders")).get(node_id),
    }
    told = {**where, **run_as_json(record), "plain_seconds": remembered().plain_seconds}
    server.send_sync(RUN_EVENT, told, server.client_id)


def run_as_json(record: RunRecord) -> dict[str, Any]:
    """A run as plain values, for the editor."""
    return {
        "family": record.family,
        "groups": as_groups(record.cells),
        "gate_step": record.gate_step,
        "summary": summary_text(record),
        "saved": round(run_saving(record), 3),
        "notes": list(record.counts.notes),
        "seconds": round(record.seconds, 3),
        "was_interrupted": record.was_interrupted,
    }


def queued_workflow() -> Mapping[str, Any]:
    """The graph that runs now, as the editor queued it; empty where it was queued without.

    Its id tells nodes in two open graphs apart, which can have the same id.
    """
    context = get_executing_context()
    if context is None:
        return {}
    running, _ = PromptServer.instance.prompt_queue.get_current_queue_volatile()
    # An entry is (number, prompt id, prompt, extra data, …).
    extra: Any = next((entry[3] for entry in running if entry[1] == context.prompt_id), None)
    for name in ("extra_pnginfo", "workflow"):
        extra = _mapping(extra).get(name)
    return _mapping(extra)


def remembered() -> Remembered:
    """What the editor remembers of the sampler that runs now.

    Our part of the editor queues a graph with an `extra` that has `log` (false: no line in the log) and, by sampler,
    `runs`: `plain` are the seconds that the same graph took with our nodes bypassed.
    """
    context, kept = get_executing_context(), _kept()
    run = _mapping(_mapping(kept.get("runs")).get("" if context is None else context.node_id))
    seconds = run.get("plain")
    if not isinstance(seconds, (int, float)) or not math.isfinite(seconds) or seconds <= 0:
        seconds = None
    return Remembered(kept.get("log") is not False, seconds)


def _kept() -> Mapping[str, Any]:
    """What our part of the editor has put into the `extra` of the graph that runs now."""
    return _mapping(_mapping(queued_workflow().get("extra")).get(EXTRA_KEY))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
