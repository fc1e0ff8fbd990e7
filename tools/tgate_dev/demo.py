"""The command `demo`: what it needs is found or made here; `demo_run` does the rest in the environment's python."""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .cache import cache_root, content_key, made
from .demo_checkpoint import UnreadableError, find, read_header, usable
from .demo_prompts import checkpoint_name
from .environment import PACK, Environment, ensure
from .errors import UserError
from .process import install

STANDIN_FILE = "tgate-standin-sd15.safetensors"
STANDIN_RECIPE = Path(__file__).with_name("standin.py")
TOOLS = PACK / "tools"
# Longer than the server is given to end.
STOP_SECONDS = 40.0


def main(args: argparse.Namespace) -> int:
    """Run the demo; returns its exit code.

    Args:
        args: `checkpoint` (Path or None), `workflow` (Path), `steps` (int or None), `out` (Path), `verbose`.

    Raises:
        UserError: something that was asked for is missing or cannot be used.
    """
    if args.steps is not None and args.steps < 1:
        raise UserError(f"--steps is {args.steps}: give it 1 or more.")
    workflow = args.workflow.expanduser().absolute()
    graph = read_workflow(workflow)
    checkpoint = None if args.checkpoint is None else usable(args.checkpoint)
    out = _ready_folder(args.out.expanduser().absolute())
    environment = ensure(None, args.verbose)
    checkpoint = checkpoint or find(environment.comfyui / "models" / "checkpoints", checkpoint_name(graph))
    is_standin = checkpoint is None
    if checkpoint is None:
        checkpoint = ready_standin(environment, args.verbose)
    options = {
        "--comfyui": environment.comfyui,
        "--comfyui-version": environment.comfyui_version,
        "--workflow": workflow,
        "--checkpoint": checkpoint,
        "--out": out,
        **({} if args.steps is None else {"--steps": args.steps}),
    }
    flags = [flag for flag, is_on in (("--is-standin", is_standin), ("--verbose", args.verbose)) if is_on]
    arguments = [str(part) for option in options.items() for part in option]
    return _call(_command(environment, "demo_run", *arguments, *flags), _variables(environment))


def read_workflow(path: Path) -> dict[str, Any]:
    """A workflow as saved by ComfyUI's editor.

    Raises:
        UserError: there is none at `path`.
    """
    try:
        graph = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"The workflow {path} cannot be read ({error.strerror}): give --workflow the path of one, as in workflows/."
        ) from error
    except ValueError as error:
        raise UserError(f"The workflow {path} is not JSON: save it anew from ComfyUI's editor.") from error
    if not isinstance(graph, dict) or not {"nodes", "links"} <= graph.keys():
        raise UserError(
            f"{path} is not a workflow as ComfyUI's editor saves it: save it with Save, not with Export (API)."
        )
    return graph


def ready_standin(environment: Environment, verbose: bool) -> Path:
    """The stand-in checkpoint, made if it is not in the cache yet; each version of its recipe has its own.

    Raises:
        UserError: it cannot be made.
    """

    def make(folder: Path) -> Path:
        new = folder / "standin"
        new.mkdir()
        command = _command(environment, "standin", "--comfyui", str(environment.comfyui), str(new / STANDIN_FILE))
        install(command, "a stand-in checkpoint with random weights (0.6 GB)", _variables(environment), shown=verbose)
        return new

    key = content_key([STANDIN_RECIPE.read_text(encoding="utf-8")])
    entry = cache_root() / "standin" / key
    return made(entry, "the stand-in checkpoint", make, lambda place: _is_whole(place / STANDIN_FILE)) / STANDIN_FILE


def _is_whole(path: Path) -> bool:
    try:
        read_header(path)
    except UnreadableError:
        return False
    return True


def _ready_folder(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "server.log").touch()
    except OSError as error:
        raise UserError(
            f"Nothing can be written to {out} ({error.strerror}): choose another folder with --out."
        ) from error
    return out


def _command(environment: Environment, module: str, *arguments: str) -> list[str]:
    return [str(environment.python), "-m", f"{__package__}.{module}", *arguments]


def _variables(environment: Environment) -> dict[str, str]:
    return {**environment.variables(), "PYTHONPATH": str(TOOLS)}


def _call(command: Sequence[str], variables: dict[str, str]) -> int:
    """Run the child to its end; it is given time to stop its server, however this process ends."""
    with subprocess.Popen(command, env=variables, stdin=subprocess.DEVNULL) as child:
        try:
            return child.wait()
        except KeyboardInterrupt:
            # The terminal interrupts the whole group: the child is at it already.
            _wait(child)
            raise
        except BaseException:
            child.terminate()
            _wait(child)
            raise


def _wait(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
