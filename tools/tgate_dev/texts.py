"""`dev.py texts`: the nodes' English texts into locales/en, and the pictures of the help pages.

Runs in the environment's python, with TGATE_COMFYUI set.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .prompts import inputs_of

# The editor's layout of translations, in locales/<language>/.
FILE = "nodeDefs.json"


def texts_of(nodes: Mapping[str, Any]) -> dict[str, Any]:
    """Names and tooltips of all nodes, their inputs and their outputs; `nodes` are classes by id."""
    return {name: _texts_of_node(node.GET_NODE_INFO_V1()) for name, node in nodes.items()}


def write_texts(texts: Mapping[str, Any], file: Path) -> None:
    """Write texts as a file of the editor's layout."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(texts, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _texts_of_node(info: Mapping[str, Any]) -> dict[str, Any]:
    outputs = zip(info["output_name"], info["output_tooltips"] or (), strict=True)
    return {
        "display_name": info["display_name"],
        "description": info["description"],
        "inputs": {
            name: {"name": options.get("display_name") or name, "tooltip": options["tooltip"]}
            for name, (_, options) in inputs_of(info).items()
        },
        "outputs": {str(index): {"name": name, "tooltip": tooltip} for index, (name, tooltip) in enumerate(outputs)},
    }


def main() -> int:
    """Write them; prints the files."""
    sys.path.insert(0, os.environ["TGATE_COMFYUI"])
    import torch
    from comfy.cli_args import args as host_arguments

    host_arguments.cpu = True
    torch.set_num_threads(1)
    # Only now: they import the host, which looks at its arguments once.
    from .bench.pack import PACK, load_pack_nodes
    from .help_pictures import draw_all

    nodes = load_pack_nodes()
    english = PACK / "locales" / "en" / FILE
    write_texts(texts_of(nodes), english)
    for file in (english, *draw_all(nodes, PACK / "web" / "docs" / "images")):
        print(file.relative_to(PACK).as_posix(), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
