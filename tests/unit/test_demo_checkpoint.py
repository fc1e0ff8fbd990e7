"""Which files the demo takes for checkpoints, and what it says of the others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tgate_dev.demo_checkpoint import UnreadableError, find, is_complete, is_sd15, read_header, usable
from tgate_dev.errors import UserError

UNET = "model.diffusion_model.input_blocks.0.0.weight"
TEXT_PROJECTION = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
VAE = "first_stage_model.decoder.conv_in.weight"
TEXT_ENCODER = "cond_stage_model.transformer.text_model.final_layer_norm.weight"
PARTS = (UNET, TEXT_PROJECTION, VAE, TEXT_ENCODER)


def checkpoint(path: Path, channels: int = 768, without: str = "") -> Path:
    weights = {name: torch.zeros(2, channels) for name in PARTS if name != without}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path, metadata={"format": "pt"})
    return path


def test_header_tells_names_and_shapes(tmp_path: Path) -> None:
    header = read_header(checkpoint(tmp_path / "a.safetensors"))
    assert header.keys() == set(PARTS)
    assert header[UNET]["shape"] == [2, 768]


@pytest.mark.parametrize("left", [9, 100, -1])
def test_cut_off_file_is_unreadable(tmp_path: Path, left: int) -> None:
    path = checkpoint(tmp_path / "a.safetensors")
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(UnreadableError, match="cut off"):
        read_header(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>404</html>" * 10, b"\x02\0\0\0\0\0\0\0[]", b"\x07\0\0\0\0\0\0\0" + b'{"a":1}', b"\xff" * 64],
    ids=["empty", "web page", "list", "no entries", "huge length"],
)
def test_other_file_is_unreadable(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match="not in the safetensors format"):
        read_header(path)


@pytest.mark.parametrize("part", [UNET, VAE, TEXT_ENCODER])
def test_every_part_is_needed(tmp_path: Path, part: str) -> None:
    assert not is_complete(read_header(checkpoint(tmp_path / "a.safetensors", without=part)))


@pytest.mark.parametrize(("channels", "expected"), [(768, True), (1024, False), (2048, False)])
def test_family_is_told_by_the_width_of_its_text(tmp_path: Path, channels: int, expected: bool) -> None:
    assert is_sd15(read_header(checkpoint(tmp_path / "a.safetensors", channels))) is expected


def test_usable_gives_the_full_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = checkpoint(tmp_path / "a.safetensors")
    monkeypatch.chdir(tmp_path)
    assert usable(Path("a.safetensors")) == path


def test_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.safetensors does not exist: give --checkpoint"):
        usable(tmp_path / "none.safetensors")


def test_folder_for_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder: give --checkpoint"):
        usable(tmp_path)


def test_unreadable_checkpoint(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "a.safetensors")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"cannot be read .*cut off.*choose another file"):
        usable(path)


@pytest.mark.parametrize(("content", "is_usable"), [(b"PK\x03\x04", True), (b"\x80\x02", True), (b"<html>", False)])
def test_pickled_checkpoint_is_told_by_its_start(tmp_path: Path, content: bytes, is_usable: bool) -> None:
    path = tmp_path / "a.ckpt"
    path.write_bytes(content)
    if is_usable:
        assert usable(path) == path
    else:
        with pytest.raises(UserError, match="format of torch"):
            usable(path)


def test_half_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a whole checkpoint"):
        usable(checkpoint(tmp_path / "unet.safetensors", without=VAE))


def test_find_prefers_the_named_one(tmp_path: Path) -> None:
    checkpoint(tmp_path / "a.safetensors")
    named = checkpoint(tmp_path / "wanted.safetensors", channels=2048)
    assert find(tmp_path, "wanted.safetensors") == named


def test_find_takes_any_sd15_otherwise(tmp_path: Path) -> None:
    checkpoint(tmp_path / "a-sdxl.safetensors", channels=2048)
    checkpoint(tmp_path / "b-unet.safetensors", without=VAE)
    (tmp_path / "c-broken.safetensors").write_bytes(b"broken")
    expected = checkpoint(tmp_path / "sub" / "d.safetensors")
    assert find(tmp_path, "wanted.safetensors") == expected


def test_find_finds_nothing(tmp_path: Path) -> None:
    assert find(tmp_path / "missing", "") is None
    checkpoint(tmp_path / "sdxl.safetensors", channels=2048)
    assert find(tmp_path, "") is None
