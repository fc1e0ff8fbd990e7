"""Graphs made for the older T-GATE pack, on a real server: with ours alone, and beside a pack that has those ids."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import model_files
import pytest
import torch
from safetensors.torch import load_file

from tgate_dev.prompts import Prompt, choices_of, inputs_of, is_widget, options_of
from tgate_dev.server import PACK_NAME, Server
from tgate_dev.server_client import run_prompt

REPO = Path(__file__).resolve().parents[2]
SUPPORT = REPO / "tests" / "support"
OURS = "TGATEApplyAdvanced"
CHECKPOINT = "tiny_sd15.safetensors"
STEPS = 5
# Prompts as the older pack's own editor sent them: all values, and only those that it asked for at first.
OLD_INPUTS: list[tuple[str, dict[str, Any]]] = [
    ("TGateApply", {"only_cross_attention": True, "self_attn_start_at": 1.0, "use_cpu_cache": False}),
    ("TGateApply", {"only_cross_attention": True}),
    ("TGateApplySimple", {"use_cpu_cache": True}),
    ("TGateApplySimple", {}),
    ("TGateApplyAdvanced", {"self_attn_start_at": 0.5, "only_cross_attention": False, "use_cpu_cache": True}),
    ("TGateApplyAdvanced", {"self_attn_start_at": 1.0, "only_cross_attention": True}),
]
# The order of the older nodes' values in a saved graph, from that pack's source.
SAVED = {
    "TGateApply": ["start_at", "only_cross_attention", "self_attn_start_at", "use_cpu_cache"],
    "TGateApplySimple": ["start_at", "use_cpu_cache"],
    "TGateApplyAdvanced": ["start_at", "self_attn_start_at", "only_cross_attention", "use_cpu_cache"],
}
MEANT = {
    "gate_unit": "percent of schedule",
    "sp_interval": 1,
    "fi_interval": 1,
    "warm_up": 0,
    "cross_attention": True,
    "self_attention": False,
    "guidance": "cond_mean",
    "protect_last": 0,
    "cache_device": "auto",
    "cache_limit_mb": 0,
    "refresh": "never",
    "refresh_gap": 2,
    "refresh_tolerance": 0.7,
}

pytestmark = pytest.mark.slow


def prompt_with(kind: str, name: str, **inputs: Any) -> Prompt:
    """A whole run with one gating node."""
    settings = {"seed": 1, "steps": STEPS, "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    texts = {
        number: {"class_type": "TGATETestRandomText", "inputs": {"text": text, "text_width": 768}, "_meta": {}}
        for number, text in (("3", "lighthouse"), ("4", "blurry"))
    }
    latent = {"width": 64, "height": 64, "batch_size": 1}
    links = {"model": ["2", 0], "positive": ["3", 0], "negative": ["4", 0], "latent_image": ["5", 0]}
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": CHECKPOINT}, "_meta": {}},
        "2": {"class_type": kind, "inputs": {"model": ["1", 0], **inputs}, "_meta": {"title": kind}},
        **texts,
        "5": {"class_type": "EmptyLatentImage", "inputs": latent, "_meta": {}},
        "6": {"class_type": "KSampler", "inputs": {**links, **settings}, "_meta": {}},
        "7": {"class_type": "SaveLatent", "inputs": {"samples": ["6", 0], "filename_prefix": name}, "_meta": {}},
    }


def sampled(server: Server, prompt: Prompt, name: str) -> tuple[torch.Tensor, str]:
    """The latent that came of a prompt, and what was logged meanwhile."""
    run = run_prompt(server, prompt)
    latent = load_file(next(server.output.glob(f"{name}_*.latent")))["latent_tensor"]
    return latent, run.log


@pytest.fixture(scope="module")
def with_checkpoint(server: Server) -> Server:
    model_files.sd15(server.base / "models" / "checkpoints" / CHECKPOINT)
    return server


@pytest.fixture(scope="module")
def meant(with_checkpoint: Server) -> torch.Tensor:
    """What our own node gives with the settings that the older ones stand for."""
    prompt = prompt_with(OURS, "older_meant", gate=0.5, **MEANT)
    latent, log = sampled(with_checkpoint, prompt, "older_meant")
    assert "gate at step" in log
    return latent


@pytest.mark.parametrize("number", range(len(OLD_INPUTS)), ids=lambda i: f"{OLD_INPUTS[i][0]} {i}")
def test_old_prompt_runs_with_our_node(number: int, with_checkpoint: Server, meant: torch.Tensor) -> None:
    kind, others = OLD_INPUTS[number]
    name = f"older_{number}"
    latent, log = sampled(with_checkpoint, prompt_with(kind, name, start_at=0.5, **others), name)
    assert torch.equal(latent, meant)
    # The host keeps results by what the nodes are given: nothing is sampled again where the settings are the same.
    assert "gate at step" not in log


def test_old_gate_is_carried_over(with_checkpoint: Server, meant: torch.Tensor) -> None:
    other, log = sampled(with_checkpoint, prompt_with("TGateApplySimple", "older_late", start_at=0.8), "older_late")
    assert "gate at step" in log
    assert not torch.equal(other, meant)
    off, log = sampled(with_checkpoint, prompt_with("TGateApplySimple", "older_off", start_at=1.0), "older_off")
    assert "nothing is changed in this run" in log
    assert not torch.equal(off, other)


def test_editor_is_told_how_to_read_a_saved_graph(server: Server, object_info: dict[str, Any]) -> None:
    told = {old: entry for old, entry in server.get_json("/node_replacements").items() if old in SAVED}
    assert {old: [entry["old_widget_ids"] for entry in entries] for old, entries in told.items()} == {
        old: [names] for old, names in SAVED.items()
    }
    ours = inputs_of(object_info[OURS])
    for entries in told.values():
        mapping = {row["new_id"]: row for row in entries[0]["input_mapping"]}
        assert entries[0]["new_node_id"] == OURS
        # All settings there are: what is left out would be missing from the prompt.
        assert mapping.keys() == {"model", *(name for name, entry in ours.items() if is_widget(entry))}
        assert {row["old_id"] for row in mapping.values() if "old_id" in row} == {"model", "start_at"}
        assert {name: row["set_value"] for name, row in mapping.items() if "set_value" in row} == MEANT
        assert entries[0]["output_mapping"] == [{"new_idx": 0, "old_idx": 0}]


def test_carried_values_fit_our_node(object_info: dict[str, Any]) -> None:
    ours = inputs_of(object_info[OURS])
    assert options_of(ours["gate"])["min"] <= 0.0 <= 1.0 <= options_of(ours["gate"])["max"]
    for name, value in MEANT.items():
        assert value in (choices_of(ours[name]) or [value])


@pytest.fixture(scope="module")
def beside_older(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that has a pack with the older ids, too."""
    folder = tmp_path_factory.mktemp("beside_older")
    packs = {PACK_NAME: REPO, "older-pack": SUPPORT / "older_pack", "nodes": SUPPORT / "server_nodes"}
    with Server(Path(sys.executable), Path(os.environ["TGATE_COMFYUI"]), folder, packs) as running:
        model_files.sd15(running.base / "models" / "checkpoints" / CHECKPOINT)
        yield running


@pytest.mark.parametrize("kind", SAVED)
def test_older_pack_keeps_its_nodes(kind: str, beside_older: Server) -> None:
    assert "older-pack" in beside_older.get_json(f"/object_info/{kind}")[kind]["python_module"]
    name = f"beside_{kind}"
    _, log = sampled(beside_older, prompt_with(kind, name, start_at=0.5), name)
    assert "older pack: start_at 0.5" in log
    assert "TGATE:" not in log
