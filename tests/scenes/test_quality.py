"""`bench quality` on the trained weights of the repository and a real ComfyUI."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import comfy.ops
import comfy.sd
import numpy as np
import pytest
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from scipy import stats
from torch.nn import functional

from tgate_dev.bench.pack import presets
from tgate_dev.errors import UserError
from tgate_dev.quality import figures, options
from tgate_dev.quality.command import measure
from tgate_dev.quality.methods import PLAIN, THRESHOLDS, make_methods
from tgate_dev.quality.records import Place, Record, Records, Setting
from tgate_dev.quality.subjects import Scenes
from tgate_dev.scenes import checkpoint, painting, text, unet

QUICK = Setting("unet", 15, "euler", 4.0)
COUNT = 16
ERRORS = 3  # how many standard errors a difference has to have

PEER = """
class DeepCache:
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "apply"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "start_step": ("INT", {"default": 3})}}

    def apply(self, model, cache_interval, cache_depth, start_step):
        return (model.clone(),)

NODE_CLASS_MAPPINGS = {"DeepCache": DeepCache}
"""


def parsed(*arguments: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    options.add_arguments(parser)
    found = parser.parse_args([str(argument) for argument in arguments])
    options.fill_in(found)
    return found


def record(method: str = PLAIN, half: str = "choose", **fields: Any) -> Record:
    usual = {"key": "1", "versions": "", "pixels": 128, "macs": 2, "cost": 1.0}
    figures = {"distance": [0.5], "ssim": [0.9], "right": [1]}
    return Record(Place(QUICK, method, half), **{**usual, **figures, **fields})


def row_counts(network: Any, device: str = "cpu") -> dict[str, int]:
    """MACs of one row of a batch, by module."""
    prompt = text.padded(text.conditioning([""])).to(device)
    noise, time = torch.zeros(1, 4, 16, 16, device=device), torch.zeros(1, device=device)
    with torch.no_grad():
        return figures.counting_macs(lambda: network(noise, time, context=prompt))[1]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TGATE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def folder(cache: None, pack: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a quick run."""
    place = tmp_path_factory.mktemp("quality")
    measure(parsed("--quick", "--prompts", COUNT, "--out", place), pack.nodes)
    return place


@pytest.fixture(scope="module")
def measured(folder: Path) -> dict[str, Record]:
    return Records(folder).pooled([*options.HALVES])[QUICK]


@pytest.mark.slow
def test_quick_run_writes_its_files(folder: Path) -> None:
    names = {"records.jsonl", "table.md", "unet-distance.png", "unet-right.png", "unet-pictures.webp"}
    assert {path.name for path in folder.iterdir()} == names


@pytest.mark.slow
def test_finished_records_are_not_made_again(folder: Path, pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / "records.jsonl").read_bytes()
    monkeypatch.setattr(Scenes, "paint", None)
    measure(parsed("--quick", "--prompts", COUNT, "--out", folder), pack.nodes)
    assert (folder / "records.jsonl").read_bytes() == before


@pytest.mark.slow
def test_plain_is_all_of_its_rows_and_nothing_away_from_itself(measured: dict[str, Record]) -> None:
    plain = measured[PLAIN]
    assert (plain.cost, set(plain.distance), set(plain.ssim)) == (1, {0.0}, {1.0})
    assert plain.macs == COUNT * QUICK.steps * 2 * checkpoint.wide_macs(
        row_counts(painting.load_model().model.diffusion_model)
    )


def test_macs_are_those_of_the_wide_network() -> None:
    wide = UNetModel(**unet.WIDE_CONFIG, device="meta", operations=comfy.ops.disable_weight_init)
    small = painting.load_model().model.diffusion_model
    assert checkpoint.wide_macs(row_counts(small)) == row_counts(wide, "meta")[""]


@pytest.mark.slow
def test_dropping_the_second_pass_costs_what_the_schedule_says(measured: dict[str, Record]) -> None:
    """18 of 30 rows run, those of single branches without cross-attention."""
    assert 18 / 30 - 0.05 < measured["TGATE Apply, as published"].cost < 18 / 30


@pytest.mark.slow
def test_predicted_steps_cost_nothing(measured: dict[str, Record]) -> None:
    """9 of 15 steps run, whole."""
    assert measured["TGATE Apply, balanced"].cost == pytest.approx(9 / 15)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("near", "far"),
    [
        ("TGATE Apply, balanced", "EasyCache 0.05"),
        ("TGATE Apply, balanced", "TGATE Apply, fast"),
        ("TGATE Apply, gentle", "TGATE Apply, as published"),
        ("EasyCache 0.05", "EasyCache 0.2"),
    ],
)
def test_order_of_methods(measured: dict[str, Record], near: str, far: str) -> None:
    gaps = np.subtract(measured[far].distance, measured[near].distance)
    assert gaps.mean() > ERRORS * stats.sem(gaps)


@pytest.mark.slow
def test_checkpoint_is_measured_without_the_judge(
    cache: None, pack: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, prompts = tmp_path / "own.safetensors", tmp_path / "prompts.txt"
    file.touch()
    prompts.write_text("red circle left of blue square\n\nwhite bar above pink ring\n", encoding="utf-8")
    loaded = comfy.sd.load_state_dict_guess_config(checkpoint.state())
    monkeypatch.setattr(comfy.sd, "load_checkpoint_guess_config", lambda name: loaded)
    grid = "--steps", 2, "--samplers", "euler", "--cfg", 4, "--methods", "EasyCache 0.2", "--pixels", 64
    measure(parsed("--checkpoint", file, "--prompts", prompts, *grid, "--out", tmp_path), pack.nodes)
    records = Records(tmp_path).pooled([*options.HALVES])[Setting("own", 2, "euler", 4.0)]
    assert [len(one.distance) for one in records.values()] == [2, 2]
    assert not any(one.right for one in records.values())
    assert not (tmp_path / "own-right.png").exists()


def test_every_preset_is_measured(pack: Any) -> None:
    methods = make_methods(painting.load_model(), 25, pack.nodes, [])
    names = [method.name for method in methods]
    assert names[0] == PLAIN
    assert {f"TGATE Apply, {name}" for name in presets(pack.nodes)} < set(names)
    assert "as published, gate 10 of 25" in names
    assert "as published, gate 5 of 25" not in names  # a preset is the same
    assert [method.series for method in methods].count("EasyCache") == len(THRESHOLDS)


def test_other_packs_join_by_their_folder(pack: Any, tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text(PEER, encoding="utf-8")
    *_, method = make_methods(painting.load_model(), 25, pack.nodes, [tmp_path])
    assert (method.name, method.is_foreign) == ("ComfyUI-deepcache: DeepCache", True)
    source = method.source
    (tmp_path / "__init__.py").write_text(f"{PEER}# changed", encoding="utf-8")
    *_, changed = make_methods(painting.load_model(), 25, pack.nodes, [tmp_path])
    assert changed.source != source


def test_attention_is_counted() -> None:
    query, key = torch.ones(2, 4, 8, 16), torch.ones(2, 4, 5, 16)
    with torch.no_grad():
        _, counts = figures.counting_macs(lambda: functional.scaled_dot_product_attention(query, key, key))
    assert counts[""] == 2 * 2 * 4 * 8 * 5 * 16


def test_a_record_is_replaced_where_anything_changed(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.add(record())
    records.add(record("other"))
    records.add(record(key="2"))
    again = Records(tmp_path)
    assert again.has(record().place, "2")
    assert not again.has(record().place, "1")


def test_records_of_two_processes_are_kept(tmp_path: Path) -> None:
    one, other = Records(tmp_path), Records(tmp_path)
    one.add(record())
    other.add(record("other"))
    one.add(record(key="2"))
    again = Records(tmp_path)
    assert again.has(record().place, "2")
    assert again.has(record("other").place, "1")


def test_halves_are_pooled_by_what_they_cost(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.add(record(macs=30, cost=0.5, distance=[0.1, 0.2]))
    records.add(record(half="report", macs=30, cost=0.25, distance=[0.3]))
    pooled = records.pooled(["choose", "report"])[QUICK][PLAIN]
    assert (pooled.macs, pooled.cost, pooled.distance) == (60, 60 / 180, [0.1, 0.2, 0.3])
    assert records.pooled(["report"])[QUICK][PLAIN].distance == [0.3]


def test_what_is_not_given_depends_on_what_is_measured() -> None:
    assert (parsed().steps, parsed("--quick").steps, parsed("--quick", "--steps", 9).steps) == ([25, 15, 50], [15], [9])
    assert parsed("--checkpoint", "own.safetensors").samplers == ["dpmpp_2m"]


@pytest.mark.parametrize("arguments", [["--prompts", "words.txt"], ["--checkpoint", "own.safetensors"]])
def test_prompts_that_do_not_fit_are_refused(pack: Any, arguments: list[str]) -> None:
    with pytest.raises(UserError, match="--prompts"):
        measure(parsed(*arguments), pack.nodes)
