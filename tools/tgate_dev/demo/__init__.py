"""`dev.py demo`: a picture without T-GATE and with each preset, by a real ComfyUI.

The command is checked here, in any Python; `run` does the rest in the environment's, which has what it takes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..environment import ensure
from ..errors import UserError


def main(options: argparse.Namespace) -> int:
    """Run the demo; returns its exit code.

    Raises:
        UserError: something that was asked for is missing or cannot be used.
    """
    checked(options)
    return ensure(None, options.verbose).run("demo.run", *options.given)


def checked(options: argparse.Namespace) -> argparse.Namespace:
    """The options with absolute paths, the folder for the results made.

    Raises:
        UserError: something that was asked for is missing or cannot be used.
    """
    for name in ("checkpoint", "workflow", "out"):
        path = getattr(options, name)
        setattr(options, name, path and path.expanduser().absolute())
    if options.steps is not None and options.steps < 1:
        raise UserError(f"--steps is {options.steps}: give it 1 or more.")
    if options.checkpoint and not options.checkpoint.is_file():
        raise UserError(f"The checkpoint {options.checkpoint} is no file: give --checkpoint the path of one.")
    read_workflow(options.workflow)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "server.log").touch()
    except OSError as error:
        reason = f"Nothing can be written to {options.out} ({error.strerror})"
        raise UserError(f"{reason}: choose another with --out.") from error
    return options


def read_workflow(path: Path) -> dict[str, Any]:
    """A workflow as saved by ComfyUI's editor.

    Raises:
        UserError: there is none at `path`.
    """
    try:
        graph = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"The workflow {path} cannot be read ({error}): give --workflow one as in workflows/."
        ) from error
    if not isinstance(graph, dict) or not {"nodes", "links"} <= graph.keys():
        raise UserError(f"{path} is not a workflow as ComfyUI's editor saves it: use its Save, not Export (API).")
    return graph
