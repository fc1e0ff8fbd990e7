"""The shipped workflows for SD 1.5 run on a real server as they are: every node is the host's or ours, all weights are
random, and nothing is changed but the size of the pictures.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import model_files
import pytest
from PIL import Image

from tgate_dev.comfyui import read_version
from tgate_dev.environment import Environment
from tgate_dev.prompts import Prompt, to_prompt
from tgate_dev.scenes.checkpoint import ready_checkpoint
from tgate_dev.server import Server
from tgate_dev.server_client import run_prompt

REPO = Path(__file__).resolve().parents[2]
SIDE = 64
# The host scales to no less than 0.01, and this is a round size.
MEGAPIXELS = (2 * SIDE) ** 2 / 2**20
# No area can be smaller than this, so the picture with two of them is larger than the others.
AREA = {"width": 64, "height": 128, "x": 64}
PREDICTED = "predicted: steps"
OLDEST_FOR_DEEP_CACHE = (0, 20)
SETTLED_PERCENT = 25.0

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Recipe:
    """A workflow and what comes of it.

    Attributes:
        name: of its file, without the ending.
        runs: what the log says of the sampler runs with T-GATE, in order.
        pictures: width and height of each saved picture.
    """

    name: str
    runs: tuple[str, ...]
    pictures: tuple[tuple[int, int], ...] = ((SIDE, SIDE),)


RECIPES = [
    Recipe("1 Start here", (PREDICTED,), ((2 * SIDE + 8, SIDE),)),
    Recipe("5 More - Picture to picture", ("gate at step 5 of 20",), ((2 * SIDE, 2 * SIDE),)),
    Recipe("5 More - Two passes", ("gate at step 8 of 20", "gate at step 0 of 20"), ((SIDE * 3 // 2, SIDE * 3 // 2),)),
    Recipe("5 More - ControlNet", (PREDICTED,)),
    Recipe("5 More - Regional prompts", (PREDICTED,), ((2 * SIDE, 2 * SIDE),)),
    Recipe("5 More - DeepCache", ("gate at step 13 of 25",)),
    Recipe("5 More - Predicted steps", ("gate at step 3 of 25", PREDICTED)),
]


@pytest.fixture(scope="module")
def with_models(server: Server) -> Iterator[Server]:
    comfyui = Path(os.environ["TGATE_COMFYUI"])
    checkpoint = ready_checkpoint(Environment(Path(sys.executable), comfyui, ""))
    for name in ("v1-5-pruned-emaonly-fp16.safetensors", "sd_xl_base_1.0.safetensors"):
        (server.base / "models" / "checkpoints" / name).symlink_to(checkpoint)
    control = server.base / "models" / "controlnet" / "control_v11p_sd15_canny_fp16.safetensors"
    model_files.controlnet(control)
    Image.radial_gradient("L").convert("RGB").save(server.base / "input" / "example.png")
    yield server
    for name in ("v1-5-pruned-emaonly-fp16.safetensors", "sd_xl_base_1.0.safetensors"):
        (server.base / "models" / "checkpoints" / name).unlink()
    control.unlink()
    (server.base / "input" / "example.png").unlink()


def small_prompt(graph: dict[str, Any], object_info: dict[str, Any]) -> Prompt:
    """The workflow as it is, with small pictures."""
    prompt = to_prompt(graph, object_info)
    has_areas = any(node["class_type"] == "ConditioningSetArea" for node in prompt.values())
    side = 2 * SIDE if has_areas else SIDE
    for node in prompt.values():
        is_area = node["class_type"] == "ConditioningSetArea"
        sizes = AREA if is_area else {"width": side, "height": side, "megapixels": MEGAPIXELS}
        for name in sizes.keys() & node["inputs"].keys():
            node["inputs"][name] = min(sizes[name], node["inputs"][name])
    return prompt


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_recipe_runs_as_it_is(recipe: Recipe, with_models: Server, object_info: dict[str, Any]) -> None:
    if "DeepCache" in recipe.name and _host_version() < OLDEST_FOR_DEEP_CACHE:
        pytest.skip("this version of the host cannot leave out layers")
    graph = json.loads((REPO / "workflows" / f"{recipe.name}.json").read_text(encoding="utf-8"))
    run = run_prompt(with_models, small_prompt(graph, object_info))
    pictures = [Image.open(path).convert("RGB") for path in run.pictures]
    assert tuple(picture.size for picture in pictures) == recipe.pictures
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)
    assert tuple(re.findall(rf"gate at step \d+ of \d+|{PREDICTED}", run.log)) == recipe.runs
    assert "guidance kept" not in run.log
    note = next(node for node in graph["nodes"] if node["type"] == "MarkdownNote")["widgets_values"][0]
    is_preset = recipe.runs[0] == PREDICTED
    assert ("It does 62 % of the work" if is_preset else recipe.runs[0].removeprefix("gate at ") + " on") in note


def test_the_measuring_workflow_runs(with_models: Server, object_info: dict[str, Any]) -> None:
    graph = json.loads((REPO / "workflows" / "5 More - Find your gate.json").read_text(encoding="utf-8"))
    prompt = small_prompt(graph, object_info)
    # At this size, and for a prompt that it does not know, the small model never settles to within the 10 % as shipped.
    gated = next(node for node in prompt.values() if node["class_type"] == "TGATEApplyAdvanced")
    gated["inputs"]["gate"] = SETTLED_PERCENT
    run = run_prompt(with_models, prompt)
    assert Image.open(next(path for path in run.pictures if path.parent.name == "TGATE")).size == (SIDE, SIDE)
    (measurement,) = (with_models.output / "tgate").glob("probe_*.probe.safetensors")
    gate_step = int(re.findall(r"gate at step (\d+) of 25", run.log)[0])
    assert 1 <= gate_step < 25
    assert int(re.findall(r"; (\d+) of \d+ attentions reused", run.log)[0]) > 0
    measurement.unlink()


def _host_version() -> tuple[int, ...]:
    return tuple(int(part) for part in read_version(Path(os.environ["TGATE_COMFYUI"])).split(".")[:2])
