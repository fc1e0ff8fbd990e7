"""`bench time` on a real ComfyUI: nodes it calls, networks it changes, and one short measurement from end to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from families import FAMILIES, Family
from torch._dynamo.testing import CompileCounter

from tgate_dev.bench.counting import build_on_meta
from tgate_dev.bench.pack import attention_sites, presets
from tgate_dev.bench.timing import networks, rounds
from tgate_dev.bench.timing.compiling import compiled_blocks
from tgate_dev.bench.timing.networks import Nothing, without_attentions
from tgate_dev.bench.timing.results import Oracle, Row
from tgate_dev.bench.timing.rows import Gate, defaults, make_rows, peer_rows, usual_gate
from tgate_dev.bench.timing.sampling import CFG, Task, sigmas, timed_run, with_peak
from tgate_dev.bench.timing.weights import Weights
from tgate_dev.errors import UserError

REPO = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
STEPS = 10
PEER = """
class DeepCache:
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "apply"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "start_step": ("INT", {"default": 3})}}

    def apply(self, model, cache_interval, cache_depth, start_step):
        assert (cache_interval, cache_depth, start_step) == (3, 0, 3)
        return (model.clone(),)

NODE_CLASS_MAPPINGS = {"DeepCache": DeepCache}
"""


def build() -> Any:
    return networks.build_random(networks.TINY, CPU, torch.float32)


@pytest.fixture(scope="module")
def model() -> Any:
    return build()


@pytest.fixture(scope="module")
def task() -> Task:
    conditioning = (networks.random_conditioning(networks.TINY, seed) for seed in (1, 2))
    return Task(CPU, networks.random_noise(networks.TINY, 1), *conditioning)


def test_a_run_tells_its_steps_apart(model: Any, task: Task, gated: Any) -> None:
    started = time.perf_counter()
    record = timed_run(
        gated(model, gate=4.0, guidance="cached_delta", self_attention=False), task, sigmas(model, STEPS)
    )
    taken = time.perf_counter() - started
    assert record.branches == [2.0] * 4 + [1.0] * 6
    assert record.reused == [[]] * 4 + [["attn2"]] * 6
    assert not record.notes
    assert record.cache_bytes
    assert len(record.step_seconds) == STEPS
    assert min(record.step_seconds) > 0
    assert sum(record.step_seconds) <= taken


def test_a_broken_result_is_noted(model: Any, task: Task) -> None:
    broken = model.clone()
    broken.set_model_sampler_post_cfg_function(lambda args: args["denoised"] * float("nan"))
    assert timed_run(broken, task, sigmas(model, 2)).notes == ["the result holds infinities or NaN"]


def test_most_memory_is_what_is_held_at_once() -> None:
    def hold(size: int) -> int:
        kept = torch.ones(size)
        for _ in range(3):
            kept = kept + 1  # two at a time
        return len(kept.view(-1))

    assert with_peak(CPU, hold, 1000) == (1000, 2 * 4 * 1000)


def test_what_was_watched_is_compiled_later() -> None:
    """Torch would never compile what it met first while operations are watched."""
    graphs = []

    def backend(graph: Any, _inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(lambda number: number + 1, backend=backend)
    with_peak(CPU, compiled, torch.ones(1))
    assert not graphs
    compiled(torch.ones(1))
    assert len(graphs) == 1


def test_others_run_between_the_steps_and_change_nothing(task: Task, gated: Any) -> None:
    """Steps of the plain model in those of a gated run, on networks that share weights; no time holds the other's."""
    model = build()
    patched = gated(networks.twin(model), gate=2.0, guidance="uncond", self_attention=False)
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
    assert sum(sum(run.step_seconds) for run in (ours, *plain.values())) <= taken


@pytest.mark.parametrize("is_plain", [False, True], ids=["gated", "plain"])
def test_a_round_holds_each_gated_step_against_the_oracle(is_plain: bool, task: Task, gated: Any, pack: Any) -> None:
    def patch(model: Any) -> Any:
        return model if is_plain else gated(model, gate=2.0, guidance="uncond", self_attention=False)

    row = Row("row", patch, None if is_plain else Oracle(frozenset({"attn2"}), branches=1))
    measurement = rounds.Measurement(build(), task, 4, [row], pack.nodes)
    measurement.warm_up()
    measurement.run_round("round")
    (found,) = row.rounds
    assert list(found.plain) == [0, 1, 2, 3]
    assert list(found.oracle) == ([] if is_plain else [2, 3])
    assert min((*found.plain.values(), *found.oracle.values())) > 0
    assert found.run.branches == ([2.0] * 4 if is_plain else [2.0, 2.0, 1.0, 1.0])
    assert row.peak_bytes


def test_oracle_and_plain_model_change_places_at_each_step(
    task: Task, gated: Any, pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise one of them would always come after the same network."""
    single_steps = []

    def spied_run(patcher: Any, task: Task, schedule: Any, cfg: float = CFG, **others: Any) -> Any:
        record = timed_run(patcher, task, schedule, cfg, **others)
        if len(schedule) == 2:
            single_steps.append("plain" if record.branches == [2.0] else "oracle")
        return record

    monkeypatch.setattr(rounds, "timed_run", spied_run)
    row = Row("row", lambda model: gated(model, gate=2.0, guidance="uncond"), Oracle(frozenset({"attn2"}), branches=1))
    measurement = rounds.Measurement(build(), task, 4, [row], pack.nodes)
    measurement.warm_up()
    measurement.run_round("round")
    assert single_steps == ["plain", "plain", "plain", "oracle", "oracle", "plain"]


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
def test_a_compiled_row_is_compiled_before_it_is_timed(task: Task, gated: Any, pack: Any) -> None:
    """By blocks: all of them, and the plain network's and the oracle's as well."""
    counter = CompileCounter()
    row = Row(
        "row",
        lambda model: gated(model, gate=2.0, guidance="cached_delta", self_attention=False),
        Oracle(frozenset({"attn2"}), branches=1),
    )
    setting = partial(compiled_blocks, backend=counter)
    model = build()
    # A graph for each of two widths, in calls that are plain, that capture, that reuse, and of the oracle.
    assert len({block.attn1.to_q.in_features for block in tiny.blocks(model)}) == 2
    measurement = rounds.Measurement(model, task, 4, [row], pack.nodes, setting, is_compiled=True)
    measurement.warm_up()
    before = counter.frame_count
    assert before >= 8
    measurement.run_round("round")
    assert counter.frame_count == before
    (found,) = row.rounds
    assert not found.run.notes
    assert list(found.oracle) == [2, 3]


def test_rows_are_chosen_by_name() -> None:
    rows = [Row(name, lambda model: model) for name in ("plain", "TGATE Apply, fast", "EasyCache")]
    assert rounds.chosen_rows(rows, ["*"]) == rows
    assert [row.name for row in rounds.chosen_rows(rows, ["Easy*"])] == ["plain", "EasyCache"]
    with pytest.raises(UserError, match="no row Lazy"):
        rounds.chosen_rows(rows, ["Easy*", "Lazy*"])


@pytest.mark.parametrize(
    "weights",
    [Weights(dtype=torch.float8_e4m3fn), Weights(is_quantised=True), Weights(share=0.4)],
    ids=["fp8", "int8", "loaded in part"],
)
def test_weights_that_are_kept_otherwise(weights: Weights, task: Task) -> None:
    """And a twin has them as well."""
    made = networks.build_random(networks.TINY, CPU, torch.float32, weights)
    other = networks.twin(made)
    record = timed_run(made, task, sigmas(made, 2))
    assert not record.notes
    assert not timed_run(other, task, sigmas(made, 2)).notes
    layers = [layer for layer in made.model.diffusion_model.modules() if isinstance(layer, torch.nn.Linear)]
    expected = torch.int8 if weights.is_quantised else weights.dtype or torch.float32
    assert {layer.weight.dtype for layer in layers} == {expected}
    for patcher in (made, other):
        loaded = patcher.model.model_loaded_weight_memory
        assert (0 < loaded <= 0.4 * patcher.model_size()) == (weights.share < 1)
        assert patcher.model.model_lowvram == (weights.share < 1)


def test_a_twin_shares_weights_and_no_layers() -> None:
    model = build()
    twin = networks.twin(model)
    theirs, ours = ({*map(id, patcher.model.modules())} for patcher in (model, twin))
    assert len(theirs) == len(ours)
    assert not theirs & ours
    assert all(one is other for one, other in zip(model.model.parameters(), twin.model.parameters(), strict=True))


def test_core_gates_at_the_same_step(model: Any, task: Task, pack: Any) -> None:
    gate = usual_gate(model, STEPS, pack.nodes)
    assert gate.step == 2
    (override,) = [row for row in make_rows(pack.nodes, gate) if row.name == "CFG Override, cfg 1 from step 2"]
    record = timed_run(override.patch(model), task, sigmas(model, STEPS))
    assert record.branches == [2.0] * 2 + [1.0] * 8


@pytest.mark.parametrize("steps", [4, 10, 25, 50])
def test_percent_lies_between_two_steps(model: Any, pack: Any, steps: int) -> None:
    gate, schedule = usual_gate(model, steps, pack.nodes), sigmas(model, steps).tolist()
    sigma = model.get_model_object("model_sampling").percent_to_sigma(gate.percent)
    assert schedule[gate.step - 1] > sigma > schedule[gate.step]


def test_rows_are_named_once_and_begin_with_the_plain_one(model: Any, pack: Any) -> None:
    names = [row.name for row in make_rows(pack.nodes, usual_gate(model, STEPS, pack.nodes))]
    assert names[0] == "plain"
    assert len(set(names)) == len(names)
    assert sum(name.startswith("TGATE Apply, ") for name in names) == len(presets(pack.nodes))


def test_rows_of_one_part_of_the_method_do_nothing_else(model: Any, task: Task, pack: Any) -> None:
    rows = make_rows(pack.nodes, usual_gate(model, STEPS, pack.nodes), model)
    rows = [row for row in rows if row.name.startswith("Advanced")]
    single = [timed_run(row.patch(model), task, sigmas(model, STEPS)) for row in rows]
    from_gate = [["attn2"] if step >= 2 else [] for step in range(STEPS)]
    between = [["attn1"] if step in (3, 4) else [] for step in range(STEPS)]
    assert [run.reused for run in single] == [from_gate, between, [[]] * STEPS]
    assert [run.branches for run in single] == [[2.0] * STEPS, [2.0] * STEPS, [2.0] * 2 + [1.0] * 8]
    assert [run.notes for run in single] == [[]] * 3


def test_oracle_takes_attentions_out_and_puts_them_back(model: Any, task: Task, pack: Any) -> None:
    network = model.model.diffusion_model
    before = [name for name, _ in network.named_modules()]
    with without_attentions(network, {"attn2"}, pack.nodes):
        names = [name for name, _ in network.named_modules()]
        assert any(name.endswith("attn1.to_q") for name in names)
        assert not any(name.endswith("attn2.to_q") for name in names)
        assert timed_run(model, task, sigmas(model, 2), cfg=1.0).branches == [1.0, 1.0]
    assert [name for name, _ in network.named_modules()] == before


@pytest.mark.parametrize(("name", "blocks"), [("sd15", 16), ("sd21", 16), ("sdxl", 70), ("pixart-alpha", 28)])
def test_oracle_finds_what_t_gate_gates(name: str, blocks: int, pack: Any) -> None:
    network = build_on_meta(networks.TIMED_MODELS[name]).model.diffusion_model
    for kinds in ({"attn1"}, {"attn2"}, {"attn1", "attn2"}):
        with without_attentions(network, kinds, pack.nodes):
            assert sum(isinstance(module, Nothing) for module in network.modules()) == blocks * len(kinds)


def test_sizes_follow_the_device() -> None:
    assert networks.timed_model("sd15", CPU).latent_shape == (1, 4, 32, 32)
    assert networks.timed_model("tiny", CPU).latent_shape == (1, 4, 8, 8)
    assert networks.timed_model("pixart-alpha", CPU).latent_shape == (1, 4, 40, 40)
    assert networks.timed_model("sdxl", torch.device("cuda")).latent_shape == (1, 4, 128, 128)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_oracle_takes_attentions_out_of_every_network(family: Family, pack: Any) -> None:
    if not family.is_available:
        pytest.skip("this version of the host does not know the model")
    patcher = family.make()
    network = patcher.model.diffusion_model
    found = attention_sites(network, pack.nodes)
    pairs = family.pairs(patcher)
    for index, kind in enumerate(("attn1", "attn2")):
        modules = [site.module for site in found if site.rule.kind == kind]
        assert sorted(map(id, modules)) == sorted(id(pair[index]) for pair in pairs)
    with without_attentions(network, {"attn1", "attn2"}, pack.nodes):
        assert sum(isinstance(module, Nothing) for module in network.modules()) == 2 * len(pairs)
        assert torch.isfinite(family.sample(patcher, steps=2)).all()
    assert not any(isinstance(module, Nothing) for module in network.modules())


def test_oracle_needs_attentions_that_it_knows(pack: Any) -> None:
    with (
        pytest.raises(ValueError, match="knows no attentions of this network"),
        without_attentions(torch.nn.Linear(1, 1), {"attn1"}, pack.nodes),
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


def pack_of(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "__init__.py").write_text(text)
    return folder


def test_only_known_nodes_of_a_peer_get_a_row(tmp_path: Path) -> None:
    text = f"{PEER}\nNODE_CLASS_MAPPINGS['SomethingElse'] = DeepCache\n"
    (row,) = peer_rows([pack_of(tmp_path / "peer", text)], Gate(5, 25, 0.4))
    assert row.name == "ComfyUI-deepcache: DeepCache"
    assert row.is_foreign


def test_a_folder_that_holds_no_known_peer_is_an_error_that_says_what_it_holds(tmp_path: Path) -> None:
    packs = {"broken": "import nowhere\n", "unknown": "class Some: pass\nNODE_CLASS_MAPPINGS = {'Some': Some}\n"}
    known = "TGateApplySimple or DeepCache or SpectrumSDXL or SpectrumApplySDXL"
    for name, found in (("broken", "nothing that ComfyUI can load"), ("unknown", "Some"), ("nowhere", "nothing")):
        folder = pack_of(tmp_path / name, packs[name]) if name in packs else tmp_path / name
        with pytest.raises(UserError, match=f"{name}: it should hold {known}, but holds {found}"):
            list(peer_rows([folder], Gate(5, 25, 0.4)))


def test_end_to_end(tmp_path: Path) -> None:
    peer = pack_of(tmp_path / "peer", PEER)
    options = ["--model", "tiny", "--device", "cpu", "--steps", "2", "--runs", "1", "--out", str(tmp_path)]
    command = [sys.executable, "-m", "tgate_dev.bench", "bench", "time", *options, "--peers", str(peer)]
    variables = {**os.environ, "PYTHONPATH": str(REPO / "tools"), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, env=variables, capture_output=True, encoding="utf-8", timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("| tiny, 64 × 64 pixels, 2 steps, fp32, CPU")
    table = (tmp_path / "time-tiny-64-fp32.md").read_text(encoding="utf-8")
    assert table in done.stdout
    names = [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[2:]]
    assert {"plain", "TGATE Apply, balanced", "EasyCache", "ComfyUI-deepcache: DeepCache"} <= set(names)
    found = json.loads((tmp_path / "time-tiny-64-fp32.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in found["rows"]] == names
    assert all(len(row["rounds"]) == 1 for row in found["rows"])
    assert all(row["figures"]["peak_bytes"]["median"] > 0 for row in found["rows"])
    assert {"versions", "device_name", "attention"} <= found["settings"].keys()
