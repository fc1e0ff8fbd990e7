"""The schedule that a real server tells the editor."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import pytest

from tgate_dev.server import Server

pytestmark = pytest.mark.slow


def ask(server: Server, prefix: str = "", **values: Any) -> dict[str, Any]:
    return server.get_json(f"{prefix}/tgate/schedule?{urllib.parse.urlencode(values)}")


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_server_answers_with_the_schedule(server: Server, prefix: str) -> None:
    answer = ask(server, prefix, node="TGATEApplyAdvanced", gate=3, steps=8, guidance="cond")
    assert answer["gate_step"] == 3
    assert [cell["phase"] for cell in answer["steps"]] == ["planning"] * 3 + ["fidelity"] * 5
    assert [cell["guided"] for cell in answer["steps"]] == [True] * 3 + [False] * 5


def test_preset_follows_the_family(server: Server) -> None:
    answers = {family: ask(server, node="TGATEApply", family=family) for family in ("", "sd15", "generic")}
    assert {family: answer["gate_step"] for family, answer in answers.items()} == {"": 10, "sd15": 5, "generic": 15}
    assert [answer["is_assumed"] for answer in answers.values()] == [True, False, False]


@pytest.mark.parametrize("values", [{"node": "TGATEApplyAdvanced", "sp_interval": 0}, {"node": "KSampler"}, {}])
def test_bad_settings_are_refused_in_words(server: Server, values: dict[str, Any]) -> None:
    with pytest.raises(urllib.error.HTTPError) as refusal:
        ask(server, **values)
    assert refusal.value.code == 400
    assert json.load(refusal.value)["error"].startswith("TGATE: ")


def test_settings_of_nodes_that_refuse_are_not_logged_as_errors(server: Server) -> None:
    with pytest.raises(urllib.error.HTTPError):
        ask(server, node="TGATEApplyAdvanced", gate=-1)
    assert "Traceback" not in server.written()
