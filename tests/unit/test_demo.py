"""What the demo says before it sets anything up, and how it fits pictures to the machine."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from tgate_dev import demo
from tgate_dev.demo.run import fitted
from tgate_dev.errors import UserError

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(version: str | None, verbose: bool) -> None:
        pytest.fail("the environment is set up before the arguments are checked")

    monkeypatch.setattr(demo, "ensure", fail)


def arguments(folder: Path, **changes: object) -> argparse.Namespace:
    sd15 = REPO / "workflows" / "sd15.json"
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
