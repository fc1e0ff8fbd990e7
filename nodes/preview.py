"""What the editor asks the pack: the schedule of a node's settings, before any run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from server import PromptServer

from ..tgate_core.report.preview import preview

SCHEDULE_PATH = "/tgate/schedule"
BAD_REQUEST = 400


def add_routes() -> None:
    """Let the server answer; nothing happens outside of one, or where another copy of the pack answers already."""
    server: Any = getattr(PromptServer, "instance", None)
    if server is None or any(getattr(route, "path", None) == SCHEDULE_PATH for route in server.routes):
        return
    # Off the event loop, which a burst of long schedules would stop; one at a time, as more threads would only contend.
    turn = asyncio.Lock()

    async def answer(request: web.Request) -> web.Response:
        async with turn:
            return await asyncio.to_thread(answer_schedule, request.query)

    server.routes.get(SCHEDULE_PATH)(answer)


def answer_schedule(query: Mapping[str, str]) -> web.Response:
    """The schedule as JSON, see `preview`; status 400 with `error` for settings that a node would refuse."""
    try:
        return web.json_response(preview(query))
    except ValueError as error:
        return web.json_response({"error": str(error)}, status=BAD_REQUEST)
