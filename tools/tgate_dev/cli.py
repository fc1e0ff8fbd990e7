"""The developer tool's commands."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from . import checks, environment
from .bench.gpu import options as gpu
from .bench.timing import options as timing
from .comfyui import DEFAULT_VERSION, OLDER_VERSIONS, PINS
from .quality import options as quality

# A measurement has the processor to itself.
MEASURING = {"OMP_WAIT_POLICY": "ACTIVE"}


def main(arguments: Sequence[str]) -> int:
    """Runs one command; returns the process's exit code."""
    options = parse(arguments)
    return COMMANDS[options.command](options)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options, and under `given` what they were parsed from; what follows `--` is kept apart, for pytest."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    own, pytest_arguments = arguments[:end], list(arguments[end + 1 :])
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
    test_help = "all checks and tests, and those of the host on older ones too; -- ARGS go to pytest instead"
    test = commands.add_parser("test", parents=[common, host], help=test_help)
    quick_help = "unit and contract tests alone, without random graphs and slow ones, on one host"
    test.add_argument("--quick", action="store_true", help=quick_help)
    demo_help = "a picture without T-GATE and with each preset, by a real ComfyUI"
    demo = commands.add_parser("demo", parents=[common], help=demo_help)
    checkpoint_help = "use this checkpoint, not the small one that is trained on drawn scenes"
    demo.add_argument("--checkpoint", type=Path, metavar="FILE", help=checkpoint_help)
    demo.add_argument(
        "--workflow", type=Path, metavar="FILE", default=environment.PACK / "workflows" / "2 Picture - SD 1.5.json"
    )
    demo.add_argument("--steps", type=int, metavar="N", help="sampling steps, instead of the workflow's")
    demo.add_argument("--out", type=Path, metavar="DIR", default=Path("demo-output"), help="where the results go")
    train_help = "train the small networks of tools/tgate_dev/scenes from nothing, or from where it was stopped"
    train = commands.add_parser("train", parents=[common], help=train_help)
    network_help = "scenes-unet: the UNet, the VAE and the judge; the others paint through the VAE and judge of before"
    networks = ["scenes-unet", "scenes-dit", "scenes-joint"]
    train.add_argument("network", choices=networks, help=network_help)
    bench = commands.add_parser("bench", help="measurements: published MACs, seconds of runs, quality of pictures")
    measurements = bench.add_subparsers(dest="measurement", required=True)
    macs_help = "the published table and the shares of work, counted on full-size models without weights"
    measurements.add_parser("macs", parents=[common, host], help=macs_help)
    reuse_help = "what reused joint attention leaves out of a step, printed and put into docs/models.md"
    measurements.add_parser("reuse", parents=[common], help=reuse_help)
    time_help = "seconds of sampling runs, T-GATE beside what else there is, on random weights"
    timing.add_arguments(measurements.add_parser("time", parents=[common, host], help=time_help))
    gpu_help = "seconds of sampling runs on a graphics card, here or from a bundle on another machine"
    gpu.add_arguments(measurements.add_parser("gpu", parents=[common, host], help=gpu_help))
    quality_help = "what each way to save costs, and how far it leads from the plain picture, on small trained models"
    quality.add_arguments(measurements.add_parser("quality", parents=[common, host], help=quality_help))
    support_help = "the table of supported models, counted on full-size models, printed and put into docs/models.md"
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
    if pytest_arguments and options.quick:
        parser.error("--quick chooses the tests itself: leave out it, or the arguments after --")
    options.given, options.pytest_arguments = list(own), pytest_arguments
    return options


def _env(options: argparse.Namespace) -> int:
    ready = environment.ensure(options.comfyui_version, options.verbose)
    print(json.dumps({name: str(value) for name, value in asdict(ready).items()}))
    return 0


def _test(options: argparse.Namespace) -> int:
    ready = environment.ensure(options.comfyui_version, options.verbose)
    # Older hosts come with the whole gate alone: not where something else was asked for.
    has_choice = options.comfyui_version or options.pytest_arguments or options.quick or os.environ.get("COMFYUI_PATH")
    versions = () if has_choice else OLDER_VERSIONS
    older = [environment.ensure(version, options.verbose) for version in versions]
    arguments = [*checks.TWO_PROCESSES, "-m", checks.QUICK] if options.quick else options.pytest_arguments
    return checks.run(ready, older, environment.PACK, arguments, options.verbose)


def _demo(options: argparse.Namespace) -> int:
    from . import demo

    return demo.main(options)


def _train(options: argparse.Namespace) -> int:
    # In the newest pinned host, so that everybody gets the same.
    return environment.ensure(DEFAULT_VERSION, options.verbose).run("scenes", options.network)


def _bench(options: argparse.Namespace) -> int:
    ready = environment.ensure(getattr(options, "comfyui_version", None), options.verbose)
    if getattr(options, "bundle", None):
        from .bench.gpu import bundle

        return bundle.pack(ready, options)
    # Quality takes hours and measures no seconds: others may have the processor.
    return ready.run("bench", *options.given, **({} if options.measurement == "quality" else MEASURING))


def _support(options: argparse.Namespace) -> int:
    return environment.ensure(None, options.verbose).run("bench", *options.given, **MEASURING)


def _workflows(options: argparse.Namespace) -> int:
    # Those of the newest pinned host, so that everybody gets the same.
    return environment.ensure(DEFAULT_VERSION, options.verbose).run("workflows")


def _screenshots(options: argparse.Namespace) -> int:
    # In the newest pinned host, so that everybody gets the same.
    ready = environment.ensure(DEFAULT_VERSION, options.verbose)
    out = options.out.expanduser().absolute()
    out.mkdir(parents=True, exist_ok=True)
    return ready.run("screenshots", str(out))


def _texts(options: argparse.Namespace) -> int:
    return environment.ensure(None, options.verbose).run("texts")


COMMANDS = {
    "env": _env,
    "test": _test,
    "demo": _demo,
    "train": _train,
    "bench": _bench,
    "support": _support,
    "workflows": _workflows,
    "screenshots": _screenshots,
    "texts": _texts,
}
