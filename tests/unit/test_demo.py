"""What the demo says before it sets anything up, and how it fits pictures to the machine."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tgate_dev import demo
from tgate_dev.demo.run import ShownLog, check, fitted
from tgate_dev.errors import UserError
from tgate_dev.progress import Stage
from tgate_dev.server import Server

REPO = Path(__file__).resolve().parents[2]
UNET = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
VAE = "first_stage_model.decoder.conv_in.weight"
TEXT_ENCODER = "cond_stage_model.transformer.text_model.final_layer_norm.weight"
PARTS = (UNET, VAE, TEXT_ENCODER)


@pytest.fixture(autouse=True)
def no_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(version: str | None, verbose: bool) -> None:
        pytest.fail("the environment is set up before the arguments are checked")

    monkeypatch.setattr(demo, "ensure", fail)


def arguments(folder: Path, **changes: object) -> argparse.Namespace:
    sd15 = REPO / "workflows" / "2 Picture - SD 1.5.json"
    defaults = {"checkpoint": None, "workflow": sd15, "steps": None, "out": folder / "out", "verbose": False}
    return argparse.Namespace(**{**defaults, **changes})


def test_no_steps(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--steps is 0: give it 1 or more"):
        demo.main(arguments(tmp_path, steps=0))


def test_missing_workflow(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json cannot be read .*give --workflow"):
        demo.main(arguments(tmp_path, workflow=tmp_path / "none.json"))


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "cannot be read"), ("[]", "not a workflow as ComfyUI's editor saves it"), ('{"1": {}}', "not Export")],
)
def test_not_a_workflow(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        demo.main(arguments(tmp_path, workflow=path))


def test_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no file: give --checkpoint"):
        demo.main(arguments(tmp_path, checkpoint=tmp_path / "none.safetensors"))


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another with --out"):
        demo.main(arguments(tmp_path, out=tmp_path / "file" / "out"))


@pytest.mark.parametrize(
    ("size", "longest", "expected"),
    [
        ((512, 512), None, (512, 512)),
        ((256, 128), 256, (256, 128)),
        ((512, 512), 256, (256, 256)),
        ((1024, 768), 256, (256, 192)),
        ((768, 1344), 256, (128, 256)),
        ((4096, 64), 256, (256, 64)),
    ],
)
def test_pictures_are_made_smaller_in_proportion(
    size: tuple[int, int], longest: int | None, expected: tuple[int, int]
) -> None:
    assert fitted(size, longest) == expected


def checkpoint(path: Path, without: str = "") -> Path:
    save_file({name: torch.zeros(2, 768) for name in PARTS if name != without}, path, metadata={"format": "pt"})
    return path


def test_a_whole_checkpoint_is_taken(tmp_path: Path) -> None:
    check(checkpoint(tmp_path / "a.safetensors"))


@pytest.mark.parametrize("left", [0, 9, 100, -1])
def test_a_checkpoint_that_was_cut_off_is_damaged(tmp_path: Path, left: int) -> None:
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


@pytest.mark.parametrize("part", PARTS)
def test_every_part_of_a_checkpoint_is_needed(tmp_path: Path, part: str) -> None:
    with pytest.raises(UserError, match="not a whole checkpoint"):
        check(checkpoint(tmp_path / "a.safetensors", without=part))


def test_checkpoints_of_another_format_are_left_to_the_host(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    path.write_bytes(b"PK")
    check(path)


@pytest.mark.parametrize("is_verbose", [True, False])
def test_what_the_server_writes_is_shown_once_if_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], is_verbose: bool
) -> None:
    file = tmp_path / "server.log"
    log, stage = ShownLog(Server(Path("python"), tmp_path, tmp_path, log=file), is_verbose), Stage("Starting")
    for text in ("first\n", "first\nsecond\n"):
        file.write_text(text)
        log.show(stage)
    assert capsys.readouterr().err == ("first\nsecond\n" if is_verbose else "")
