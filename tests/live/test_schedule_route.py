"""The schedule that a real server tells the editor."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import aiohttp
import pytest

from tgate_dev.server import Server

pytestmark = pytest.mark.slow


def ask(server: Server, prefix: str = "", **values: Any) -> dict[str, Any]:
    return server.get_json(f"{prefix}/tgate/schedule?{urllib.parse.urlencode(values)}")


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_server_answers_with_the_schedule(server: Server, prefix: str) -> None:
    answer = ask(server, prefix, node="TGATEApplyAdvanced", gate=3, steps=8, guidance="cond")
    assert answer["gate_step"] == 3
    steps = [group for group in answer["groups"] for _ in range(group["count"])]
    assert [step["phase"] for step in steps] == ["planning"] * 3 + ["fidelity"] * 5
    assert [step["guided"] for step in steps] == [True] * 3 + [False] * 5


def test_preset_follows_the_family(server: Server) -> None:
    answers = {
        family: ask(server, node="TGATEApply", preset="as published", family=family)
        for family in ("", "sd15", "generic")
    }
    assert {family: answer["gate_step"] for family, answer in answers.items()} == {"": 10, "sd15": 5, "generic": 15}
    assert [answer["is_assumed"] for answer in answers.values()] == [True, False, False]


def test_the_scheduler_tells_where_the_noise_falls(server: Server) -> None:
    run = {"node": "TGATEApply", "preset": "gentle", "family": "sd15", "sampler": "dpmpp_2m", "steps": 20}
    late, early = (ask(server, scheduler=name, **run) for name in ("normal", "karras"))
    assert late["groups"] != early["groups"]
    assert not late["is_approximate"]
    assert not early["is_approximate"]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "node=KSampler",
        "node=TGATEApplyAdvanced&sp_interval=0",
        f"node=TGATEApply&steps={'9' * 310}",
        f"node=TGATEApply&steps={'9' * 5000}",
        "node=TGATEApply&steps=1001",
        "node=TGATEApply&steps=%D9%A2%D9%A5",
        "node=TGATEApply&steps=%FF%00",
        "node=TGATEApply&denoise=1e308",
        "node=TGATEApply&denoise=1e999",
        "node=TGATEApply&steps=5&steps=50",
        f"node=TGATEApplyAdvanced&warm_up={'9' * 310}",
        f"node=TGATEApplyAdvanced&gate={'9' * 310}",
        "node=TGATEApplyAdvanced&gate=-1e-320",
        "node=TGATEApplyAdvanced&guidance=%ED%A0%80",
    ],
    ids=lambda query: query[:40],
)
def test_bad_settings_are_refused_in_a_sentence(server: Server, query: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refusal:
        server.get_json(f"/tgate/schedule?{query}")
    assert refusal.value.code == 400
    error = json.load(refusal.value)["error"]
    assert error.startswith("TGATE: ")
    assert len(error) < 300


def test_many_questions_at_once_keep_nobody_waiting(server: Server) -> None:
    """Forty of the longest: others are answered between them, not after them."""
    longest = f"{server.address}/tgate/schedule?node=TGATEApply&preset=as+published&steps=1000"

    async def get(session: aiohttp.ClientSession, address: str) -> None:
        async with session.get(address) as answer:
            assert answer.status == 200
            assert len(await answer.read()) < 5000

    async def left_at_the_answer() -> int:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            asked = [asyncio.create_task(get(session, longest)) for _ in range(40)]
            await asyncio.sleep(0.05)
            await get(session, f"{server.address}/system_stats")
            left = sum(not one.done() for one in asked)
            await asyncio.gather(*asked)
            return left

    assert asyncio.run(left_at_the_answer()) > 0


def test_settings_of_nodes_that_refuse_are_not_logged_as_errors(server: Server) -> None:
    before = len(server.written())
    with pytest.raises(urllib.error.HTTPError):
        ask(server, node="TGATEApplyAdvanced", gate=-1)
    assert "Traceback" not in server.written()[before:]
