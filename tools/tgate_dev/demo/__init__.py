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

    Args:
        options: `checkpoint` (Path or None), `workflow` (Path), `steps` (int or None), `out` (Path), `verbose`.

    Raises:
        UserError: something that was asked for is missing or cannot be used.
    """
    checkpoint, workflow, out = (
        path and path.expanduser().absolute() for path in (options.checkpoint, options.workflow, options.out)
    )
    if options.steps is not None and options.steps < 1:
        raise UserError(f"--steps is {options.steps}: give it 1 or more.")
    if checkpoint and not checkpoint.is_file():
        raise UserError(f"The checkpoint {checkpoint} is no file: give --checkpoint the path of one.")
    read_workflow(workflow)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "server.log").touch()
    except OSError as error:
        raise UserError(f"Nothing can be written to {out} ({error.strerror}): choose another with --out.") from error
    environment = ensure(None, options.verbose)
    job = {**vars(options), "checkpoint": checkpoint, "workflow": workflow, "out": out, **vars(environment)}
    return environment.run("demo.run", json.dumps(job, default=str))


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
