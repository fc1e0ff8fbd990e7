"""Measuring, gating as measured, and reporting, in one graph on a real server."""

from __future__ import annotations

from typing import Any

import model_files
import pytest

from tgate_dev.prompts import Prompt
from tgate_dev.server import Server
from tgate_dev.server_client import queue, run_prompt

STEPS = 6
MODEL = "tiny_observed.safetensors"

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
    assert [step["cross_reused"] for step in event["steps"]] == [0] + [1] * 5
    assert [step["guided"] for step in event["steps"]] == [True] + [False] * 5
    assert event["gate_step"] == 1
    assert not event["was_interrupted"]


def test_a_saved_probe_is_in_the_list_and_gates(told: list[dict[str, Any]], server: Server) -> None:
    del told
    name = "tgate/test1_00001_.probe.safetensors [output]"
    (spec,) = server.get_json("/object_info/TGATELoadProbe")["TGATELoadProbe"]["input"]["required"].values()
    assert name in spec[1]["options"]
    prompt = graph(gate=90.0, seed=2)
    for node_id in ("5", "6", "7", "8", "13"):
        del prompt[node_id]
    prompt["5"] = node("TGATELoadProbe", file=name)
    prompt["9"]["inputs"]["probe"] = ["5", 0]
    assert "gated, from step 1 on" in text_of(run_prompt(server, prompt).messages, "11")


def test_a_file_outside_is_refused(told: list[dict[str, Any]], server: Server) -> None:
    del told
    prompt = {"5": node("TGATELoadProbe", file="../secret.probe.safetensors")}
    prompt["6"] = node("TGATESaveProbe", probe=["5", 0], filename_prefix="tgate/copy")
    with pytest.raises(Exception, match="lies outside"):
        queue(server, prompt)
