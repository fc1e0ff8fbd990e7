"""What the editor asks the pack: the schedule of a node's settings, before any run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from server import PromptServer

from ..tgate_core.host.model_file import family_of_file
from ..tgate_core.host.noise_levels import noise_levels
from ..tgate_core.report.preview import preview

SCHEDULE_PATH = "/tgate/schedule"
BAD_REQUEST = 400
# What the query calls a file that the node's model is loaded from: the host's name of its kind of file.
MODEL_FILES = ("checkpoints", "diffusion_models")


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
    """The schedule as JSON, see `preview`; status 400 with `error` for settings that a node would refuse.

    Where the query has no family, it may name the model's file under one of `MODEL_FILES`.
    """
    try:
        return web.json_response(preview(_with_family(query), noise_levels))
    except ValueError as error:
        return web.json_response({"error": str(error)}, status=BAD_REQUEST)


def _with_family(query: Mapping[str, str]) -> Mapping[str, str]:
    if "family" in query:
        return query
    found = (family_of_file(kind, query[kind]) for kind in MODEL_FILES if kind in query)
    family = next((family for family in found if family is not None), None)
    return query if family is None else {**query, "family": family}
