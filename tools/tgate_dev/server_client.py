"""Queue a prompt on a running ComfyUI server and follow it to its end. Needs aiohttp, which ComfyUI brings."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from .server import Server, ServerError
from .server_graph import Prompt

# Previews can be large; the host's own limit for messages is of this size.
LARGEST_MESSAGE = 100 * 2**20
# Inputs of the host's loaders that name a file.
FILE_INPUTS = (
    "ckpt_name",
    "lora_name",
    "vae_name",
    "unet_name",
    "clip_name",
    "clip_name1",
    "clip_name2",
    "control_net_name",
)


class RefusedPromptError(ServerError):
    """The server does not accept a prompt; `node_errors` is what it says of each node, by node id,
    and `missing_files` names those that it does not have.
    """

    def __init__(self, answer: dict[str, Any]) -> None:
        self.node_errors: dict[str, Any] = answer.get("node_errors") or {}
        reasons = [
            f"{node['class_type']}: {error['message']} ({error['details']})"
            for node in self.node_errors.values()
            for error in node["errors"]
        ]
        error = answer.get("error") or {}
        self.missing_files: list[str] = [
            str(error["extra_info"]["received_value"])
            for node in self.node_errors.values()
            for error in node["errors"]
            if error["type"] == "value_not_in_list" and error["extra_info"]["input_name"] in FILE_INPUTS
        ]
        super().__init__("; ".join(reasons) or str(error.get("message", error) or "the prompt was refused"))


class FailedNodeError(ServerError):
    """A node raised an error while a prompt ran."""

    def __init__(self, node_type: str, reason: str) -> None:
        self.node_type = node_type
        super().__init__(f"{node_type} failed: {reason}")


@dataclass
class PromptRun:
    """What came of a prompt.

    Attributes:
        seconds: from the start of its execution to the end.
        node_seconds: the same for each node that ran, by node id.
        pictures: files that it saved.
    """

    seconds: float = 0.0
    node_seconds: dict[str, float] = field(default_factory=dict)
    pictures: list[Path] = field(default_factory=list)


def queue(server: Server, prompt: Prompt, client_id: str) -> str:
    """Queue a prompt; returns its id.

    Raises:
        RefusedPromptError: the server finds fault with it.
    """
    body = json.dumps({"prompt": prompt, "client_id": client_id}).encode()
    request = urllib.request.Request(f"{server.address}/prompt", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(json.load(answer)["prompt_id"])
    except urllib.error.HTTPError as error:
        raise RefusedPromptError(json.load(error)) from error


def run_prompt(server: Server, prompt: Prompt, on_progress: Callable[[str, float], None]) -> PromptRun:
    """Run a prompt to its end.

    Args:
        server: where.
        prompt: what.
        on_progress: called with the id of the node that runs and how far it is, 0 to 1.

    Raises:
        ServerError: the prompt is refused, a node fails, or the server ends.
    """
    return asyncio.run(_run_prompt(server, prompt, on_progress))


async def _run_prompt(server: Server, prompt: Prompt, on_progress: Callable[[str, float], None]) -> PromptRun:
    client_id = uuid.uuid4().hex
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{server.address}/ws?clientId={client_id}", max_msg_size=LARGEST_MESSAGE) as socket,
    ):
        prompt_id = await asyncio.to_thread(queue, server, prompt, client_id)
        watch = _Watch(prompt_id, on_progress)
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT and watch.has_ended_with(json.loads(message.data)):
                watch.run.pictures = await asyncio.to_thread(_pictures, server, prompt_id)
                return watch.run
    server.check_running()
    raise ServerError("The ComfyUI server closed the connection before the prompt was done.")


class _Watch:
    """Follows the messages about one prompt."""

    def __init__(self, prompt_id: str, on_progress: Callable[[str, float], None]) -> None:
        self.run = PromptRun()
        self._prompt_id = prompt_id
        self._on_progress = on_progress
        self._node: str | None = None
        self._start = self._node_start = time.perf_counter()

    def has_ended_with(self, message: dict[str, Any]) -> bool:
        """Take in one message; True when it was the prompt's last."""
        kind, data = message.get("type"), message.get("data") or {}
        if data.get("prompt_id") != self._prompt_id:
            return False
        if kind in ("execution_error", "execution_interrupted"):
            reason = str(data.get("exception_message", "interrupted")).strip()
            raise FailedNodeError(data.get("node_type", "A node"), reason)
        if kind == "execution_start":
            self._start = time.perf_counter()
        if kind == "progress":
            self._on_progress(str(data["node"]), data["value"] / data["max"])
        return kind == "executing" and self._next_node(data["node"])

    def _next_node(self, node: str | None) -> bool:
        now = time.perf_counter()
        if self._node is not None:
            self.run.node_seconds[self._node] = now - self._node_start
        self._node, self._node_start = node, now
        if node is not None:
            self._on_progress(node, 0.0)
            return False
        self.run.seconds = now - self._start
        return True


def _pictures(server: Server, prompt_id: str) -> list[Path]:
    outputs = server.get_json(f"/history/{prompt_id}")[prompt_id]["outputs"]
    saved = [entry for output in outputs.values() for entry in output.get("images", ()) if entry["type"] == "output"]
    return [server.output / entry["subfolder"] / entry["filename"] for entry in saved]
