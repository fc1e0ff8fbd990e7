"""Make them, in the environment's python: `python -m tgate_dev.texts`, with TGATE_COMFYUI set."""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Writes the English node texts and the pictures of the help pages; prints the files."""
    sys.path.insert(0, os.environ["TGATE_COMFYUI"])
    import torch
    from comfy.cli_args import args as host_arguments

    host_arguments.cpu = True
    torch.set_num_threads(1)
    # Only now: they import the host, which looks at its arguments once.
    from ..bench.pack import PACK, load_pack_nodes
    from .node_texts import FILE, texts_of, write_texts
    from .pictures import draw_all

    nodes = load_pack_nodes()
    english = PACK / "locales" / "en" / FILE
    write_texts(texts_of(nodes), english)
    for file in (english, *draw_all(nodes, PACK / "web" / "docs" / "images")):
        print(file.relative_to(PACK).as_posix(), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
