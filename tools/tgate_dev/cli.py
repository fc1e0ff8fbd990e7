"""The developer tool's commands, and how each of them ends."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from . import checks, environment, readme
from .bench.timing import options as timing
from .chinese import chinese_table
from .comfyui import CONTRACT_VERSIONS, DEFAULT_VERSION, PINS
from .errors import UserError
from .server import ServerError
from .workflows import command as workflows

# Where the table of supported models stands, in English and in Chinese.
SUPPORT_TABLES = ("README.md", "README.zh.md")
BAD_USE = 2
INTERRUPTED = 130
TERMINATED = 143


def main(arguments: Sequence[str]) -> int:
    """Runs one command; returns the process's exit code.

    2 is for what the user can put right, and a sentence on the error stream says how.
    """
    options = parse(arguments)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return COMMANDS[options.command](options)
    except UserError as error:
        if options.verbose:
            traceback.print_exc()
        sys.stderr.write(f"{error}\n")
        return BAD_USE
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted: nothing half-made is kept, so the same command can simply be run again.\n")
        return INTERRUPTED


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options; what follows `--` is kept apart, for pytest."""
    own, pytest_arguments = _split(list(arguments))
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--verbose", action="store_true", help="show everything, installers' output included")
    host = argparse.ArgumentParser(add_help=False)
    host.add_argument(
        "--comfyui-version", metavar="VERSION", help=f"use this ComfyUI instead of your own: {', '.join(PINS)}"
    )
    parser = argparse.ArgumentParser(prog="dev.py", description="Developer tool of the TGATE pack.")
    commands = parser.add_subparsers(dest="command", required=True)
    env_help = "set up if needed, and print one JSON line that says where things are"
    commands.add_parser("env", parents=[common, host], help=env_help)
    test_help = "linter, formatter check, type check, all tests, and the contract on older hosts; -- ARGS go to pytest"
    commands.add_parser("test", parents=[common, host], help=test_help)
    demo = commands.add_parser("demo", parents=[common], help="a picture with T-GATE off and on, by a real ComfyUI")
    demo.add_argument("--checkpoint", type=Path, metavar="FILE", help="the checkpoint to use")
    demo.add_argument("--workflow", type=Path, metavar="FILE", default=environment.PACK / "workflows" / "sd15.json")
    demo.add_argument("--steps", type=int, metavar="N", help="sampling steps, instead of the workflow's")
    demo.add_argument("--out", type=Path, metavar="DIR", default=Path("demo-output"), help="where the results go")
    bench = commands.add_parser("bench", help="measurements: published MACs, and seconds of sampling runs")
    measurements = bench.add_subparsers(dest="measurement", required=True)
    macs_help = "the published table, counted on full-size models without weights"
    measurements.add_parser("macs", parents=[common, host], help=macs_help)
    time_help = "seconds of sampling runs, T-GATE beside what else there is, on random weights"
    timing.add_arguments(measurements.add_parser("time", parents=[common, host], help=time_help))
    support_help = "the table of supported models, counted on full-size models, printed and put into both READMEs"
    commands.add_parser("support", parents=[common], help=support_help)
    workflows_help = "make the workflows described in tools/tgate_dev/workflows, and write them into workflows/"
    commands.add_parser("workflows", parents=[common], help=workflows_help)
    screenshots_help = "the README's pictures of the nodes, taken in a real editor in a real browser"
    screenshots = commands.add_parser("screenshots", parents=[common], help=screenshots_help)
    images = environment.PACK / "docs" / "images"
    screenshots.add_argument("--out", type=Path, metavar="DIR", default=images, help="where the pictures go")
    texts_help = "the nodes' own texts into locales/en, and the pictures of the help pages"
    commands.add_parser("texts", parents=[common], help=texts_help)
    options = parser.parse_args(own)
    if pytest_arguments and options.command != "test":
        parser.error("only the command 'test' takes arguments after --")
    options.pytest_arguments = pytest_arguments
    return options


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in arguments:
        return arguments, []
    place = arguments.index("--")
    return arguments[:place], arguments[place + 1 :]


def _env(options: argparse.Namespace) -> int:
    ready = environment.ensure(options.comfyui_version, options.verbose)
    print(json.dumps({name: str(value) for name, value in asdict(ready).items()}))
    return 0


def _test(options: argparse.Namespace) -> int:
    ready = environment.ensure(options.comfyui_version, options.verbose)
    others = [environment.ensure(version, options.verbose) for version in _other_hosts(options)]
    return checks.run(ready, others, environment.PACK, options.pytest_arguments, options.verbose)


def _other_hosts(options: argparse.Namespace) -> tuple[str, ...]:
    """Versions whose contract is tested beside all tests on the newest; none where something else was asked for."""
    has_choice = options.comfyui_version or options.pytest_arguments or os.environ.get("COMFYUI_PATH")
    return () if has_choice else CONTRACT_VERSIONS


def _demo(options: argparse.Namespace) -> int:
    from . import demo

    return demo.main(options)


def _bench(options: argparse.Namespace) -> int:
    ready = environment.ensure(options.comfyui_version, options.verbose)
    command, variables = _measuring(ready, options.measurement)
    if options.measurement == "time":
        command += timing.as_arguments(options)
    return subprocess.run(command, env=variables, check=False).returncode


def _support(options: argparse.Namespace) -> int:
    ready = environment.ensure(None, options.verbose)
    command, variables = _measuring(ready, "support")
    lines = []
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode == 0:
        table = "".join(lines)
        english, chinese = (environment.PACK / name for name in SUPPORT_TABLES)
        readme.replace_section(english, "support", table)
        readme.replace_section(chinese, "support", chinese_table(table))
    return process.returncode


def _workflows(options: argparse.Namespace) -> int:
    # Those of the newest pinned host, so that everybody gets the same.
    ready = environment.ensure(DEFAULT_VERSION, options.verbose)
    try:
        files = workflows.run(ready)
    except (ServerError, workflows.DescriptionError) as error:
        raise UserError(f"The workflows could not be made: {error}") from error
    print(*files, sep="\n")
    return 0


def _screenshots(options: argparse.Namespace) -> int:
    # In the newest pinned host, so that everybody gets the same.
    ready = environment.ensure(DEFAULT_VERSION, options.verbose)
    out = options.out.expanduser().absolute()
    out.mkdir(parents=True, exist_ok=True)
    variables = {**ready.variables(), "PYTHONPATH": str(environment.PACK / "tools")}
    places = ["--comfyui", str(ready.comfyui), "--comfyui-version", ready.comfyui_version, "--out", str(out)]
    command = [str(ready.python), "-m", f"{__package__}.screenshots", *places]
    return subprocess.run(command, env=variables, check=False).returncode


def _texts(options: argparse.Namespace) -> int:
    ready = environment.ensure(None, options.verbose)
    command = [str(ready.python), "-m", f"{__package__}.texts"]
    return subprocess.run(command, env=_variables(ready), check=False).returncode


def _measuring(ready: environment.Environment, measurement: str) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a measurement, which runs in ComfyUI's Python and has the processor to itself."""
    variables = {**_variables(ready), "OMP_WAIT_POLICY": "ACTIVE"}
    return [str(ready.python), "-m", f"{__package__}.bench", measurement], variables


def _variables(ready: environment.Environment) -> dict[str, str]:
    """For modules of this package in ComfyUI's Python."""
    return {**ready.variables(), "PYTHONPATH": str(environment.PACK / "tools"), "PYTHONIOENCODING": "utf-8"}


COMMANDS = {
    "env": _env,
    "test": _test,
    "demo": _demo,
    "bench": _bench,
    "support": _support,
    "workflows": _workflows,
    "screenshots": _screenshots,
    "texts": _texts,
}


def _terminate(number: int, frame: FrameType | None) -> None:
    # An exception, so that children are ended and temporary folders removed on the way out.
    sys.exit(TERMINATED)
