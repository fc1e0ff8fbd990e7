"""`dev.py workflows`: makes the workflows and writes them into the pack, in ComfyUI's Python."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from ..environment import PACK, current
from ..errors import exit_code
from ..server import Server
from . import made


def main() -> int:
    """Writes all; prints the files.

    Raises:
        ServerError: the server that knows the nodes does not start.
        DescriptionError: a workflow does not fit its nodes.
    """
    ready = current()
    with tempfile.TemporaryDirectory() as folder, Server(ready.python, ready.comfyui, Path(folder)) as server:
        texts = dict(made(server.get_json("/object_info")))
    for name, text in texts.items():
        file = PACK / "workflows" / f"{name}.json"
        file.write_text(text, encoding="utf-8")
        print(file)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
