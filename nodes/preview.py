"""What the editor asks the pack: the schedule of a node's settings, before any run."""

from __future__ import annotations

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
    server.routes.get(SCHEDULE_PATH)(answer_schedule)


async def answer_schedule(request: web.Request) -> web.Response:
    """The schedule as JSON, see `preview`; status 400 with `error` for settings that a node would refuse."""
    try:
        return web.json_response(preview(request.query))
    except ValueError as error:
        return web.json_response({"error": str(error)}, status=BAD_REQUEST)
