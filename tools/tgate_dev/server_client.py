"""Run prompts on a ComfyUI server. Needs aiohttp, which ComfyUI brings."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from .prompts import Prompt
from .server import Server, ServerError


class RefusedPromptError(ServerError):
    """The server does not accept a prompt; `errors` is what it says, with the node's type under "class_type"."""

    def __init__(self, answer: dict[str, Any]) -> None:
        nodes = (answer.get("node_errors") or {}).values()
        self.errors = [{**error, "class_type": node["class_type"]} for node in nodes for error in node["errors"]]
        reasons = [f"{error['class_type']}: {error['message']} ({error['details']})" for error in self.errors]
        super().__init__("; ".join(reasons) or (answer.get("error") or {}).get("message", "the prompt was refused"))


class FailedNodeError(ServerError):
    """A node raised an error while a prompt ran."""

    def __init__(self, node_type: str, reason: str) -> None:
        self.node_type, self.reason = node_type, reason
        super().__init__(f"{node_type} failed: {reason}")


@dataclass
class PromptRun:
    """What came of a prompt."""

    seconds: float = 0.0
    pictures: list[Path] = field(default_factory=list)  # that it saved
    messages: list[dict[str, Any]] = field(default_factory=list)  # of the server to the editor
    log: str = ""  # what the server wrote meanwhile


def queue(server: Server, prompt: Prompt, client_id: str = "") -> str:
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


def run_prompt(
    server: Server, prompt: Prompt, on_progress: Callable[[str, float], None] = lambda node, share: None
) -> PromptRun:
    """Run a prompt to its end; `on_progress` is told the id of the node that runs, and how far it is, 0 to 1.

    Raises:
        ServerError: the prompt is refused, a node fails, or the server ends.
    """
    return asyncio.run(_followed(server, prompt, on_progress))


async def _followed(server: Server, prompt: Prompt, on_progress: Callable[[str, float], None]) -> PromptRun:
    run, start, before = PromptRun(), time.perf_counter(), len(server.written())
    async for message in _messages(server, prompt):
        run.messages.append(message)
        kind, data = message["type"], message["data"]
        if kind == "execution_start":
            start = time.perf_counter()
        elif kind == "executing" and data["node"] is not None:
            on_progress(str(data["node"]), 0.0)
        elif kind == "progress":
            on_progress(str(data["node"]), data["value"] / data["max"])
        elif kind == "executed":
            saved = [one for one in (data["output"] or {}).get("images", ()) if one["type"] == "output"]
            run.pictures += [server.output / one["subfolder"] / one["filename"] for one in saved]
    run.seconds, run.log = time.perf_counter() - start, server.written()[before:]
    return run


async def _messages(server: Server, prompt: Prompt) -> AsyncIterator[dict[str, Any]]:
    """What the server tells the editor while a prompt runs, to its end."""
    client_id = uuid.uuid4().hex
    address = f"{server.address}/ws?clientId={client_id}"
    async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
        prompt_id = await asyncio.to_thread(queue, server, prompt, client_id)
        async for frame in socket:
            if frame.type is not aiohttp.WSMsgType.TEXT:  # previews
                continue
            message = frame.json()
            yield message
            kind, data = message["type"], message["data"]
            if data.get("prompt_id") != prompt_id:
                continue
            if kind in ("execution_error", "execution_interrupted"):
                reason = str(data.get("exception_message", "interrupted")).strip()
                raise FailedNodeError(data.get("node_type", "A node"), reason)
            if kind == "execution_success":
                return
    server.check_running()
    raise ServerError("The ComfyUI server closed the connection before the prompt was done.")
