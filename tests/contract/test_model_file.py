"""What a model's file says of it before it is loaded; and that no other file is opened."""

from __future__ import annotations

import json

import folder_paths
import model_files
import pytest
import safetensors.torch
import torch
from joint_families import JOINT_FAMILIES

MADE = {
    "sd15": model_files.sd15,
    "svd": model_files.svd,
    "pixart": model_files.pixart_alpha,
    "generic": model_files.wan_t2v,
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
@pytest.mark.parametrize("family", JOINT_FAMILIES, ids=lambda family: family.name)
def test_what_can_be_gated_with_joint_attention_is_read_from_the_header(folder, family_of, pack, family):
    """The host does not know an AuraFlow as small as this one."""
    patcher = family.make()
    weights = {name: torch.zeros_like(weight) for name, weight in patcher.model.diffusion_model.state_dict().items()}
    safetensors.torch.save_file(weights, folder / "model.safetensors")
    scope = pack.core("host.networks").scope_of(patcher)
    expected = None if family.name == "AuraFlow" else "generic" if scope == "all" else scope
    assert family_of("model.safetensors") == expected


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
