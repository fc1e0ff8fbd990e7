"""What `bench time` is asked for. Nothing here needs torch: the developer tool, too, reads the command line with it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MODELS = ("tiny", "standin", "sd15", "sd21", "sdxl", "pixart-alpha")
DEVICES = ("cpu", "cuda")
DTYPES = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class TimeOptions:
    """The options; None where the device decides.

    Attributes:
        model: name of the architecture.
        device: where it runs.
        dtype: precision of weights and activations.
        batch: pictures a run.
        pixels: height and width of a picture.
        steps: sampling steps of a run.
        runs: rounds; in each of them every row runs once.
        out: folder for the results.
        peers: folders of other packs to measure beside.
    """

    model: str | None = None
    device: str | None = None
    dtype: str | None = None
    batch: int = 1
    pixels: int | None = None
    steps: int = 25
    runs: int = 3
    out: Path = Path("bench-output")
    peers: tuple[Path, ...] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `bench time`, for a parser."""
    usual = TimeOptions()
    parser.add_argument("--model", choices=MODELS, help="architecture; standin on the CPU, sd15 on a graphics card")
    parser.add_argument("--device", choices=DEVICES, help="a graphics card where there is one")
    parser.add_argument("--dtype", choices=DTYPES, help="fp32 on the CPU, fp16 on a graphics card")
    parser.add_argument("--batch", type=_count, default=usual.batch, metavar="N", help="pictures a run")
    parser.add_argument(
        "--pixels", type=_pixels, metavar="N", help="size of the picture; 256 on the CPU, else the model's usual one"
    )
    parser.add_argument("--steps", type=_steps, default=usual.steps, metavar="N", help="sampling steps")
    parser.add_argument("--runs", type=_count, default=usual.runs, metavar="N", help="runs of each row, in rounds")
    parser.add_argument("--out", type=Path, default=usual.out, metavar="DIR", help="where JSON and chart go")
    parser.add_argument(
        "--peers", type=Path, nargs="+", default=usual.peers, metavar="DIR", help="other packs to measure beside"
    )


def from_namespace(parsed: argparse.Namespace) -> TimeOptions:
    """The options from what a parser found."""
    return TimeOptions(
        model=parsed.model,
        device=parsed.device,
        dtype=parsed.dtype,
        batch=parsed.batch,
        pixels=parsed.pixels,
        steps=parsed.steps,
        runs=parsed.runs,
        out=parsed.out.expanduser().absolute(),
        peers=tuple(path.expanduser().absolute() for path in parsed.peers),
    )


def as_arguments(options: TimeOptions) -> list[str]:
    """The command line that gives these options."""
    single = {
        "--model": options.model,
        "--device": options.device,
        "--dtype": options.dtype,
        "--batch": options.batch,
        "--pixels": options.pixels,
        "--steps": options.steps,
        "--runs": options.runs,
        "--out": options.out,
    }
    given = [part for flag, value in single.items() if value is not None for part in (flag, str(value))]
    return [*given, *(["--peers", *map(str, options.peers)] if options.peers else [])]


def parse(arguments: Sequence[str]) -> TimeOptions:
    """The options of a command line of their own."""
    parser = argparse.ArgumentParser(prog="bench time")
    add_arguments(parser)
    return from_namespace(parser.parse_args(arguments))


def _count(text: str) -> int:
    return _at_least(1, text)


def _steps(text: str) -> int:
    # A step before the gate and one behind it.
    return _at_least(2, text)


def _pixels(text: str) -> int:
    # Down to a latent of one place in the innermost level of the deepest network.
    pixels = _at_least(64, text)
    if pixels % 64:
        raise argparse.ArgumentTypeError(f"{pixels} is not a multiple of 64")
    return pixels


def _at_least(least: int, text: str) -> int:
    try:
        number = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from error
    if number < least:
        raise argparse.ArgumentTypeError(f"{number} is below {least}")
    return number
