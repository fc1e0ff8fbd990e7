"""Measuring, gating as measured, and reporting, in one graph on a real server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from typing import Any

import aiohttp
import model_files
import pytest

from tgate_dev.prompts import Prompt
from tgate_dev.server import Server
from tgate_dev.server_client import FailedNodeError, queue, run_prompt

STEPS = 6
MODEL = "tiny_observed.safetensors"
# A picture in a message is larger than what is taken by default.
LARGEST_MESSAGE = 2**26
# The host's number of messages that are shown under a node.
TEXT = 3

pytestmark = pytest.mark.slow


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def sampler(model: list[Any], seed: int) -> dict[str, Any]:
    settings = {"seed": seed, "steps": STEPS, "cfg": 5.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1}
    return node("KSampler", model=model, positive=["2", 0], negative=["3", 0], latent_image=["4", 0], **settings)


def graph(gate: float, seed: int) -> Prompt:
    advanced = {
        "gate": gate,
        "gate_unit": "measured",
        "sp_interval": 1,
        "fi_interval": 1,
        "warm_up": 0,
        "cross_attention": True,
        "self_attention": False,
        "guidance": "cached_delta",
        "protect_last": 0,
        "cache_device": "auto",
        "cache_limit_mb": 0,
    }
    return {
        "1": node("UNETLoader", unet_name=MODEL, weight_dtype="default"),
        "2": node("TGATETestRandomText", text="a cat"),
        "3": node("TGATETestRandomText", text=""),
        "4": node("EmptyHunyuanLatentVideo", width=32, height=32, length=5, batch_size=1),
        "5": node("TGATEProbe", model=["1", 0]),
        "6": sampler(["5", 0], seed),
        "7": node("TGATEConvergencePlot", probe=["5", 1], tolerance=gate, latent=["6", 0]),
        "8": node("TGATESaveProbe", probe=["7", 3], filename_prefix=f"tgate/test{seed}"),
        "9": node("TGATEApplyAdvanced", model=["1", 0], probe=["7", 3], **advanced),
        "10": sampler(["9", 0], seed),
        "11": node("TGATEReport", model=["9", 0], latent=["10", 0]),
        "12": node("PreviewImage", images=["11", 2]),
        "13": node("PreviewImage", images=["7", 0]),
    }


def of_type(messages: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [message["data"] for message in messages if message["type"] == kind]


@pytest.fixture(scope="module")
def told(server: Server) -> list[dict[str, Any]]:
    model_files.wan_t2v(server.base / "models" / "diffusion_models" / MODEL)
    return run_prompt(server, graph(gate=90.0, seed=1)).messages


def text_of(told: list[dict[str, Any]], node_id: str) -> str:
    (outcome,) = [data for data in of_type(told, "executed") if data["node"] == node_id]
    return str(outcome["output"]["text"][0])


def test_the_report_says_what_was_saved(told: list[dict[str, Any]]) -> None:
    report = text_of(told, "11")
    assert "gated, from step 1 on" in report
    assert "% saved" in report
    assert "not counted" not in report


def test_the_plot_recommends_a_gate(told: list[dict[str, Any]]) -> None:
    assert text_of(told, "7").startswith("Recommended gate: step 1 of 6")


def test_the_editor_is_told_of_the_gated_run_alone(told: list[dict[str, Any]]) -> None:
    (event,) = of_type(told, "tgate.run")
    assert (event["node_id"], event["sampler_id"], event["family"]) == ("9", "10", "generic")
    groups = [(group["count"], group["cross_reused"], group["guided"]) for group in event["groups"]]
    assert groups == [(1, 0, True), (5, 1, False)]
    assert event["gate_step"] == 1
    assert not event["was_interrupted"]


def test_a_saved_probe_is_in_the_list_and_gates(told: list[dict[str, Any]], server: Server) -> None:
    del told
    name = "tgate/test1_00001_.probe.safetensors [output]"
    (spec,) = server.get_json("/object_info/TGATELoadProbe")["TGATELoadProbe"]["input"]["required"].values()
    assert name in spec[1]["options"]
    prompt = from_file(name, seed=2)
    assert "gated, from step 1 on" in text_of(run_prompt(server, prompt).messages, "11")


def from_file(name: Any, seed: int) -> Prompt:
    """A run that is gated by a saved probe."""
    prompt = graph(gate=90.0, seed=seed)
    for node_id in ("5", "6", "7", "8", "13"):
        del prompt[node_id]
    prompt["5"] = node("TGATELoadProbe", file=name)
    prompt["9"]["inputs"]["probe"] = ["5", 0]
    return prompt


def test_a_link_names_the_file(told: list[dict[str, Any]], server: Server) -> None:
    del told
    prompt = from_file(["14", 0], seed=3)
    prompt["14"] = node("TGATETestAnything", text="tgate/test1_00001_.probe.safetensors [output]")
    assert "gated, from step 1 on" in text_of(run_prompt(server, prompt).messages, "11")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("none.probe.safetensors", "file is 'none.probe.safetensors', but there is no file of this name"),
        ("../x.probe.safetensors", "lies outside of ComfyUI's input and output folders"),
        ("a\0b", "letters that no file name can have"),
        ("n" * 300, "leads to no file"),
    ],
    ids=["none", "outside", "letters", "long"],
)
def test_a_file_that_a_link_names_wrongly_is_refused_at_the_node(
    told: list[dict[str, Any]], server: Server, text: str, error: str
) -> None:
    del told
    prompt = from_file(["14", 0], seed=4)
    prompt["14"] = node("TGATETestAnything", text=text)
    failure = failure_of(server, prompt)
    assert failure.node_type == "TGATELoadProbe"
    assert error in failure.reason
    assert str(server.base) not in failure.reason


@pytest.mark.parametrize("name", ["gate", "guidance", "protect_last", "cross_attention"])
def test_a_setting_that_a_link_brings_wrongly_is_refused_at_the_node(
    told: list[dict[str, Any]], server: Server, name: str
) -> None:
    del told
    prompt = from_file("tgate/test1_00001_.probe.safetensors [output]", seed=5)
    prompt["14"] = node("TGATETestAnything", text="2.5")
    prompt["9"]["inputs"][name] = ["14", 0]
    failure = failure_of(server, prompt)
    assert failure.node_type == "TGATEApplyAdvanced"
    assert failure.reason.startswith(f"TGATE: {name} is '2.5'")


def failure_of(server: Server, prompt: Prompt) -> FailedNodeError:
    """The error of the node that fails."""
    with pytest.raises(FailedNodeError) as caught:
        run_prompt(server, prompt)
    return caught.value


def test_of_a_prompt_without_a_client_no_editor_hears(told: list[dict[str, Any]], server: Server) -> None:
    del told
    prompt = {number: graph(gate=90.0, seed=6)[number] for number in ("1", "2", "3", "4")}
    # Which has something to say of this model before the run, too.
    prompt["5"] = node("TGATEApply", model=["1", 0], preset="balanced")
    prompt["6"] = sampler(["5", 0], seed=6)
    prompt["7"] = node("TGATEReport", model=["5", 0], latent=["6", 0])
    prompt["8"] = node("PreviewImage", images=["7", 2])
    heard = asyncio.run(heard_beside(server, prompt))
    assert "status" in heard
    assert not {"tgate.run", TEXT} & set(heard)


async def heard_beside(server: Server, prompt: Prompt) -> list[Any]:
    """Kinds of the messages that an open editor gets while a program runs a prompt."""
    async with (
        aiohttp.ClientSession(server.address) as session,
        session.ws_connect(f"/ws?clientId={uuid.uuid4().hex}", max_msg_size=LARGEST_MESSAGE) as socket,
    ):
        async with session.post("/prompt", json={"prompt": prompt}) as answer:
            prompt_id = (await answer.json())["prompt_id"]
        while not (outcome := await (await session.get(f"/history/{prompt_id}")).json()):
            await asyncio.sleep(0.1)
        assert outcome[prompt_id]["status"]["status_str"] == "success", outcome
        heard: list[Any] = []
        with contextlib.suppress(asyncio.TimeoutError):
            while message := await socket.receive(timeout=1):
                is_text = message.type is aiohttp.WSMsgType.TEXT
                heard.append(json.loads(message.data)["type"] if is_text else int.from_bytes(message.data[:4], "big"))
        return heard


def test_a_file_outside_is_refused(told: list[dict[str, Any]], server: Server) -> None:
    del told
    prompt = {"5": node("TGATELoadProbe", file="../secret.probe.safetensors")}
    prompt["6"] = node("TGATESaveProbe", probe=["5", 0], filename_prefix="tgate/copy")
    with pytest.raises(Exception, match="lies outside"):
        queue(server, prompt)
