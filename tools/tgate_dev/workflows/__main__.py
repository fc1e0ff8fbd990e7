"""`dev.py workflows`: makes workflows, their cards and the subgraph, in ComfyUI's Python."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from ..environment import PACK, current
from ..errors import exit_code
from ..server import Server
from . import as_text, blueprint, made
from .family import tell_families
from .thumbnail import draw_card


def main() -> int:
    """Writes all; prints the files.

    Raises:
        ServerError: the server that knows the nodes does not start.
        DescriptionError: a workflow does not fit its nodes.
    """
    ready = current()
    folder = PACK / "workflows"
    with tempfile.TemporaryDirectory() as own, Server(ready.python, ready.comfyui, Path(own)) as server:
        object_info = server.get_json("/object_info")
        for name, text in made(object_info):
            _write(folder / f"{name}.json", text)
        _write(PACK / "subgraphs" / f"{blueprint.NAME}.json", blueprint.made(object_info))
        # Those made by hand have a card and a family, too.
        for file in folder.glob("*.json"):
            graph = json.loads(file.read_text(encoding="utf-8"))
            tell_families(graph)
            file.write_text(as_text(graph), encoding="utf-8")
            draw_card(graph, object_info, server.get_json, file.with_suffix(".jpg"))
    return 0


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    print(file)


if __name__ == "__main__":
    sys.exit(exit_code(main))
