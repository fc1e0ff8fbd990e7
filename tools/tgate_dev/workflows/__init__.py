"""`dev.py workflows`: make the workflows described here and write them into the pack."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..environment import PACK, Environment
from ..prompts import ObjectInfo
from ..server import Server
from .models import MODELS
from .recipes import RECIPES
from .workflow import DescriptionError, Workflow

__all__ = ["DescriptionError", "made", "run"]

FOLDER = PACK / "workflows"


def made(object_info: ObjectInfo) -> Iterator[tuple[str, str]]:
    """Name of each workflow, and what its file holds.

    Args:
        object_info: what a server says about its nodes.

    Raises:
        DescriptionError: a workflow does not fit them.
    """
    for row in (*MODELS, *RECIPES):
        workflow = Workflow(object_info)
        row.build(workflow)
        yield row.name, json.dumps(workflow.saved(row), indent=2, ensure_ascii=False) + "\n"


def run(ready: Environment) -> list[Path]:
    """Write all; returns the files.

    Raises:
        ServerError: the server that knows the nodes does not start.
        DescriptionError: a workflow does not fit its nodes.
    """
    with tempfile.TemporaryDirectory() as folder, Server(ready.python, ready.comfyui, Path(folder)) as server:
        texts = dict(made(server.get_json("/object_info")))
    files = {FOLDER / f"{name}.json": text for name, text in texts.items()}
    for file, text in files.items():
        file.write_text(text, encoding="utf-8")
    return list(files)
