"""`bench time` on a real ComfyUI: nodes it calls, networks it changes, and one short measurement from end to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from families import FAMILIES, Family

from tgate_dev.bench.models import build_on_meta
from tgate_dev.bench.timing import models, rounds
from tgate_dev.bench.timing.host_nodes import call_node, defaults, host_node
from tgate_dev.bench.timing.oracles import Nothing, attentions, without_attentions
from tgate_dev.bench.timing.peers import PEER_NODES, GateAt, rows_of
from tgate_dev.bench.timing.records import Oracle, Results, Row
from tgate_dev.bench.timing.rows import OwnNodes, make_rows, percent_between
from tgate_dev.bench.timing.sampling import Task, sigmas, timed_run
from tgate_dev.errors import UserError

REPO = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
STEPS = 10
BROKEN_NODE = """
class DeepCache:
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "apply"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    def apply(self, model, cache_interval, cache_depth):
        raise TypeError("this node is broken")

NODE_CLASS_MAPPINGS = {"DeepCache": DeepCache}
"""


def build() -> Any:
    return models.build_random(models.TINY, CPU, torch.float32)


@pytest.fixture(scope="module")
def model() -> Any:
    return build()


@pytest.fixture(scope="module")
def task() -> Task:
    conditioning = (models.random_conditioning(models.TINY, seed) for seed in (1, 2))
    return Task(CPU, models.random_noise(models.TINY, 1), *conditioning, cfg=7.0)


def test_a_run_tells_its_steps_apart(model: Any, task: Task, gated: Any) -> None:
    started = time.perf_counter()
    record = timed_run(
        gated(model, gate=4.0, guidance="cached_delta", self_attention=False), task, sigmas(model, STEPS)
    )
    taken = time.perf_counter() - started
    assert record.branches == [2.0] * 4 + [1.0] * 6
    assert record.reused == [[]] * 4 + [["attn2"]] * 6
    assert record.is_finite
    assert record.cache_bytes
    assert len(record.step_seconds) == STEPS
    assert min(record.step_seconds) > 0
    assert record.seconds <= taken


def test_others_run_between_the_steps_and_change_nothing(task: Task, gated: Any) -> None:
    """Steps of the plain model in those of a gated run, on networks that share weights; no time holds the other's."""
    model = build()
    patched = gated(models.twin(model), gate=2.0, guidance="uncond", self_attention=False)
    schedule = sigmas(model, 4)
    alone = timed_run(patched, task, schedule)
    plain = {}

    def after_step(step: int) -> None:
        plain[step] = timed_run(model, task, schedule[step : step + 2])
        assert plain[step].reused is None

    started = time.perf_counter()
    ours = timed_run(patched, task, schedule, after_step=after_step)
    taken = time.perf_counter() - started
    assert [run.branches for run in plain.values()] == [[2.0]] * 4
    assert ours.branches == alone.branches == [2.0, 2.0, 1.0, 1.0]
    assert ours.reused == alone.reused == [[], [], ["attn2"], ["attn2"]]
    assert ours.seconds + sum(run.seconds for run in plain.values()) <= taken


@pytest.mark.parametrize("is_plain", [False, True], ids=["gated", "plain"])
def test_a_round_holds_each_gated_step_against_the_oracle(is_plain: bool, task: Task, gated: Any, pack: Any) -> None:
    def patch(model: Any) -> Any:
        return model if is_plain else gated(model, gate=2.0, guidance="uncond", self_attention=False)

    row = Row("row", patch, None if is_plain else Oracle(frozenset({"attn2"}), branches=1))
    measurement = rounds.Measurement(build(), task, Results({"steps": 4}, [], [row]), pack.core)
    measurement.warm_up()
    measurement.run_round("round")
    (run,), (plain,), (ideal,) = row.runs, row.plain_steps, row.oracle_steps
    assert [plain[step].branches for step in range(4)] == [[2.0]] * 4
    assert {step: at_best.branches for step, at_best in ideal.items()} == ({} if is_plain else {2: [1.0], 3: [1.0]})
    assert run.branches == ([2.0] * 4 if is_plain else [2.0, 2.0, 1.0, 1.0])
    assert row.peak_bytes


def test_oracle_and_plain_model_change_places_at_each_step(
    task: Task, gated: Any, pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise one of them would always come after the same network."""
    single_steps = []

    def spied_run(patcher: Any, task: Task, schedule: Any, cfg: float | None = None, **others: Any) -> Any:
        if len(schedule) == 2:
            single_steps.append("plain" if cfg is None else "oracle")
        return timed_run(patcher, task, schedule, cfg, **others)

    monkeypatch.setattr(rounds, "timed_run", spied_run)
    row = Row("row", lambda model: gated(model, gate=2.0, guidance="uncond"), Oracle(frozenset({"attn2"}), branches=1))
    measurement = rounds.Measurement(build(), task, Results({"steps": 4}, [], [row]), pack.core)
    measurement.warm_up()
    measurement.run_round("round")
    assert single_steps == ["plain", "plain", "plain", "oracle", "oracle", "plain"]


def test_a_twin_shares_weights_and_no_layers() -> None:
    model = build()
    twin = models.twin(model)
    theirs, ours = ({*map(id, patcher.model.modules())} for patcher in (model, twin))
    assert len(theirs) == len(ours)
    assert not theirs & ours
    assert all(one is other for one, other in zip(model.model.parameters(), twin.model.parameters(), strict=True))


def test_core_gates_at_the_same_step(model: Any, task: Task, pack: Any) -> None:
    gate = OwnNodes(pack.nodes).gate(model, STEPS)
    assert gate.step == 2
    node = host_node("CFGOverride")
    assert node is not None
    record = timed_run(call_node(node, model, start_percent=gate.percent), task, sigmas(model, STEPS))
    assert record.branches == [2.0] * 2 + [1.0] * 8


def test_percent_lies_between_two_steps(model: Any) -> None:
    percent_to_sigma = model.get_model_object("model_sampling").percent_to_sigma
    schedule = sigmas(model, STEPS).tolist()
    for step in range(1, STEPS):
        percent = percent_between(percent_to_sigma, schedule[step - 1], schedule[step])
        assert schedule[step - 1] > percent_to_sigma(percent) > schedule[step]


def test_rows_are_named_once_and_begin_with_the_plain_one(model: Any, pack: Any) -> None:
    own = OwnNodes(pack.nodes)
    rows, _ = make_rows(own, own.gate(model, STEPS))
    names = [row.name for row in rows]
    assert names[0] == "plain"
    assert len(set(names)) == len(names)
    assert sum(name.startswith("TGATE Apply, ") for name in names) == len(own.presets)


def test_oracle_takes_attentions_out_and_puts_them_back(model: Any, task: Task, pack: Any) -> None:
    network = model.model.diffusion_model
    before = [name for name, _ in network.named_modules()]
    with without_attentions(network, {"attn2"}, pack.core):
        names = [name for name, _ in network.named_modules()]
        assert any(name.endswith("attn1.to_q") for name in names)
        assert not any(name.endswith("attn2.to_q") for name in names)
        assert timed_run(model, task, sigmas(model, 2), cfg=1.0).branches == [1.0, 1.0]
    assert [name for name, _ in network.named_modules()] == before


@pytest.mark.parametrize(("name", "blocks"), [("sd15", 16), ("sd21", 16), ("sdxl", 70), ("pixart-alpha", 28)])
def test_oracle_finds_what_t_gate_gates(name: str, blocks: int, pack: Any) -> None:
    network = build_on_meta(models.TIMED_MODELS[name]).model.diffusion_model
    for kinds in ({"attn1"}, {"attn2"}, {"attn1", "attn2"}):
        with without_attentions(network, kinds, pack.core):
            assert sum(isinstance(module, Nothing) for module in network.modules()) == blocks * len(kinds)


def test_sizes_follow_the_device() -> None:
    assert models.timed_model("sd15", None, CPU).latent_shape == (1, 4, 32, 32)
    assert models.timed_model("sd15", 512, CPU).latent_shape == (1, 4, 64, 64)
    assert models.timed_model("tiny", None, CPU).latent_shape == (1, 4, 8, 8)
    assert models.timed_model("pixart-alpha", None, CPU).latent_shape == (1, 4, 40, 40)
    assert models.timed_model("sdxl", None, torch.device("cuda")).latent_shape == (1, 4, 128, 128)
    with pytest.raises(UserError, match="--pixels 320 or more"):
        models.timed_model("pixart-alpha", 256, CPU)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_oracle_takes_attentions_out_of_every_network(family: Family, pack: Any) -> None:
    if not family.is_available:
        pytest.skip("this version of the host does not know the model")
    patcher = family.make()
    network = patcher.model.diffusion_model
    found = attentions(network, pack.core)
    pairs = family.pairs(patcher)
    for index, kind in enumerate(("attn1", "attn2")):
        modules = [attention.module for attention in found if attention.kind == kind]
        assert sorted(map(id, modules)) == sorted(id(pair[index]) for pair in pairs)
    with without_attentions(network, {"attn1", "attn2"}, pack.core):
        assert sum(isinstance(module, Nothing) for module in network.modules()) == 2 * len(pairs)
        assert torch.isfinite(family.sample(patcher, steps=2)).all()
    assert not any(isinstance(module, Nothing) for module in network.modules())


def test_oracle_needs_attentions_that_it_knows(pack: Any) -> None:
    with (
        pytest.raises(ValueError, match="knows no attentions of this network"),
        without_attentions(torch.nn.Linear(1, 1), {"attn1"}, pack.core),
    ):
        pass


def test_what_the_editor_shows_first() -> None:
    inputs = {
        "required": {
            "model": ("MODEL",),
            "share": ("FLOAT", {"default": 0.4}),
            "choice": (["a", "b"],),
            "chosen": (["a", "b"], {"default": "b"}),
        },
        "optional": {"switch": ("BOOLEAN", {"default": False})},
        "hidden": {"prompt": "PROMPT"},
    }
    assert defaults(inputs) == {"share": 0.4, "choice": "a", "chosen": "b", "switch": False}


def test_only_known_nodes_of_a_peer_get_a_row() -> None:
    gate = GateAt(5, 0.4, 25)
    (row,) = rows_of({"TGateApplySimple": object, "SomethingElse": object}, gate)
    assert row.name == "JettHu/ComfyUI_TGate: TGateApplySimple"
    assert row.is_foreign
    assert PEER_NODES["TGateApplySimple"].inputs(gate) == {"start_at": 0.4}


def test_end_to_end(tmp_path: Path) -> None:
    """With peers that cannot be loaded, that nobody knows, and that fail."""
    packs = {
        "broken": "import nowhere\n",
        "unknown": "class Some: pass\nNODE_CLASS_MAPPINGS = {'Some': Some}\n",
        "failing": BROKEN_NODE,
    }
    for name, text in packs.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
    peers = [str(tmp_path / name) for name in packs]
    options = ["--model", "tiny", "--device", "cpu", "--steps", "2", "--runs", "1", "--out", str(tmp_path)]
    command = [sys.executable, "-m", "tgate_dev.bench", "time", *options, "--peers", *peers]
    variables = {**os.environ, "PYTHONPATH": str(REPO / "tools"), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, env=variables, capture_output=True, encoding="utf-8", timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tiny, 64 × 64 pixels, 2 steps, fp32, CPU")
    lines = done.stdout.splitlines()
    assert "broken: ComfyUI could not load it as a pack; its reason is above." in lines
    assert "unknown: none of its nodes is known here (Some)." in lines
    assert "ComfyUI-deepcache: DeepCache: given up, TypeError: this node is broken" in lines
    found = json.loads((tmp_path / "time-tiny-64-cpu-fp32.json").read_text(encoding="utf-8"))
    assert all(len(row["runs"]) == (row["failure"] is None) for row in found["rows"])
    assert {"torch", "comfyui", "python", "device_name"} <= found["settings"].keys()
    assert all((row["figures"]["peak_bytes"] or 0) > 0 for row in found["rows"] if row["failure"] is None)
    assert "| TGATE Apply, balanced |" in (tmp_path / "time-tiny-64-cpu-fp32.md").read_text(encoding="utf-8")
    assert (tmp_path / "time-tiny-64-cpu-fp32.png").read_bytes().startswith(b"\x89PNG")
