"""`dev.py workflows`: make the described workflows and write them into the pack."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..environment import PACK, Environment
from ..server import Server
from ..server_graph import ObjectInfo
from .guided import GUIDED
from .measuring import MEASURING
from .pictures import PICTURES
from .recipes import RECIPES
from .saved import DescriptionError, saved
from .sounds import SOUNDS
from .videos import VIDEOS

__all__ = ["DescriptionError", "made", "run", "written"]

FOLDER = PACK / "workflows"


def made(object_info: ObjectInfo) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and graph of every workflow that is made here.

    Args:
        object_info: what a server says about its nodes.

    Raises:
        DescriptionError: a description does not fit them.
    """
    for describe in (*PICTURES, *VIDEOS, *SOUNDS, *RECIPES, *GUIDED, *MEASURING):
        workflow = describe()
        yield workflow.name, saved(workflow, object_info)


def written(graph: dict[str, Any]) -> str:
    """A graph as its file has it."""
    return json.dumps(graph, indent=2, ensure_ascii=False) + "\n"


def run(ready: Environment) -> list[Path]:
    """Make all and write them; returns the files.

    Raises:
        ServerError: the server that knows the nodes does not start.
        DescriptionError: a description does not fit its nodes.
    """
    with tempfile.TemporaryDirectory() as folder, _server(ready, Path(folder)) as server:
        graphs = list(made(server.get_json("/object_info")))
    files = [FOLDER / f"{name}.json" for name, _ in graphs]
    for file, (_, graph) in zip(files, graphs, strict=True):
        file.write_text(written(graph), encoding="utf-8")
    return files


def _server(ready: Environment, folder: Path) -> Server:
    return Server(
        python=ready.python,
        comfyui=ready.comfyui,
        base=folder / "comfyui",
        log=folder / "server.log",
        custom_nodes={"comfyui-tgate-nodes": PACK},
        arguments=("--cpu",),
    )
