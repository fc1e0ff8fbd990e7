"""Which files the demo takes for checkpoints, and what it says of the others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tgate_dev.demo.run import check
from tgate_dev.errors import UserError

UNET = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
VAE = "first_stage_model.decoder.conv_in.weight"
TEXT_ENCODER = "cond_stage_model.transformer.text_model.final_layer_norm.weight"
PARTS = (UNET, VAE, TEXT_ENCODER)


def checkpoint(path: Path, channels: int = 768, without: str = "") -> Path:
    weights = {name: torch.zeros(2, channels) for name in PARTS if name != without}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path, metadata={"format": "pt"})
    return path


@pytest.mark.parametrize("channels", [768, 2048])
def test_a_whole_checkpoint_is_taken(tmp_path: Path, channels: int) -> None:
    check(checkpoint(tmp_path / "a.safetensors", channels))


@pytest.mark.parametrize("left", [0, 9, 100, -1])
def test_a_file_that_was_cut_off_is_damaged(tmp_path: Path, left: int) -> None:
    path = checkpoint(tmp_path / "a.safetensors")
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(UserError, match=r"a\.safetensors is damaged .*choose another file"):
        check(path)


@pytest.mark.parametrize("content", [b"<html>404</html>" * 10, b"\x02\0\0\0\0\0\0\0[]", b"\xff" * 64])
def test_another_file_is_damaged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        check(path)


@pytest.mark.parametrize("part", [UNET, VAE, TEXT_ENCODER])
def test_every_part_is_needed(tmp_path: Path, part: str) -> None:
    with pytest.raises(UserError, match="not a whole checkpoint"):
        check(checkpoint(tmp_path / "a.safetensors", without=part))


def test_files_of_another_format_are_left_to_the_host(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    path.write_bytes(b"PK")
    check(path)
