"""What a model's file says of it before it is loaded; and that no other file is opened."""

from __future__ import annotations

import json

import folder_paths
import model_files
import pytest
import safetensors.torch
import torch

from tgate_dev.bench import joint_models, models
from tgate_dev.bench.counting import build_on_meta
from tgate_dev.bench.models import FullSizeModel
from tgate_dev.bench.support import USUAL_RUNS

MADE = {
    "sd15": model_files.sd15,
    "svd": model_files.svd,
    "pixart": model_files.pixart_alpha,
    "generic": model_files.wan_t2v,
}
_PIXELS = {"image_model": "zimage_pixel", "in_channels": 3, "patch_size": 32, "decoder_num_res_blocks": 1}
# One of each row of the support table, and networks that have none.
FULL_SIZE: dict[str, FullSizeModel] = {
    **{run.name: run.model for run in USUAL_RUNS},
    "SDXL refiner": FullSizeModel(
        "SDXLRefiner",
        (1, 4, 128, 128),
        (77, 1280),
        models.unet(((1, 0), (2, 4), (4, 4), (4, 0)), middle=4, num_classes="sequential"),
    ),
    "Z-Image of pixels": FullSizeModel(
        "ZImagePixelSpace", (1, 3, 1024, 1024), (128, 2560), {**joint_models.Z_IMAGE.network, **_PIXELS}
    ),
    "Krea 2": joint_models.KREA_2,
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder that the host looks for checkpoints in, and no other."""
    place = tmp_path / "checkpoints"
    place.mkdir()
    entry = ([str(place)], {".safetensors", ".ckpt"})
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "checkpoints", entry)
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    return place


@pytest.fixture
def family_of(pack, folder):
    def ask(name):
        return pack.core("host.model_file").family_of_file("checkpoints", name)

    return ask


@pytest.mark.parametrize("family", MADE)
def test_family_is_read_from_the_header(folder, family_of, family):
    MADE[family](folder / "model.safetensors")
    assert family_of("model.safetensors") == family


@pytest.mark.newest
@pytest.mark.parametrize("model", FULL_SIZE.values(), ids=FULL_SIZE)
def test_a_file_says_what_the_loaded_model_is(folder, family_of, pack, model):
    patcher = build_on_meta(model)
    networks = pack.core("host.networks")
    scope = networks.scope_of(patcher)
    model_files.header(folder / "model.safetensors", patcher.model.diffusion_model)
    assert family_of("model.safetensors") == (networks.family_of(patcher) if scope == "all" else scope)


@pytest.mark.newest
def test_what_a_file_says_of_itself_counts(folder, family_of):
    """As to the host's loaders: autoregressive Wan has the weights of the other."""
    network = build_on_meta(models.WAN_T2V_1_3B).model.diffusion_model
    says = {"config": json.dumps({"transformer": {"causal_ar": True}})}
    model_files.header(folder / "model.safetensors", network, says)
    assert family_of("model.safetensors") == "guidance alone"


def test_a_file_that_is_not_listed_is_not_opened(folder, family_of):
    model_files.sd15(folder.parent / "outside.safetensors")
    assert family_of("../outside.safetensors") is None
    assert family_of(str(folder.parent / "outside.safetensors")) is None
    assert family_of("missing.safetensors") is None


def test_only_safetensors_are_read(folder, family_of):
    model_files.sd15(folder / "model.ckpt")
    assert family_of("model.ckpt") is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a model",
        (2**40).to_bytes(8, "little") + b"{}",  # a header longer than the file
        (2).to_bytes(8, "little") + b"[]",
        (30).to_bytes(8, "little") + json.dumps({"a": {"shape": "many"}}).encode().ljust(30),
    ],
    ids=["empty", "text", "too long", "no names", "no shape"],
)
def test_whatever_a_file_holds_is_no_error(folder, family_of, content):
    (folder / "model.safetensors").write_bytes(content)
    assert family_of("model.safetensors") is None


def test_weights_of_no_known_model_have_no_family(folder, family_of):
    safetensors.torch.save_file({"weight": torch.zeros(2, 2)}, folder / "model.safetensors")
    assert family_of("model.safetensors") is None
