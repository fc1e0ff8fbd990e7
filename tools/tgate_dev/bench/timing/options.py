"""The options of `bench time`. Free of torch: the developer tool parses them as well."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

MODELS = ("tiny", "sd15", "sd21", "sdxl", "pixart-alpha")
COMPILED = ("whole", "blocks")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    parser.add_argument("--model", choices=MODELS, default="sd15", help="architecture; weights are random")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: the GPU if there is one")
    # One step on each side of the gate.
    parser.add_argument("--steps", type=at_least(2), default=25, metavar="N", help="sampling steps")
    parser.add_argument("--runs", type=at_least(1), default=3, metavar="N", help="runs of each row")
    compile_help = "have torch compile the whole network, or each of its transformer blocks, with inductor"
    parser.add_argument("--compile", choices=COMPILED, help=compile_help)
    rows_help = "rows beside the plain one, with * for any text; all of them by default"
    parser.add_argument("--rows", nargs="+", default=["*"], metavar="ROW", help=rows_help)
    parser.add_argument("--out", type=Path, default=Path("bench-output"), metavar="DIR", help="folder for the results")
    parser.add_argument("--peers", type=Path, nargs="+", default=[], metavar="DIR", help="folders of other packs")


def at_least(least: int) -> Callable[[str], int]:
    """A parser of whole numbers that are no less."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of {least} or more")
        return int(text)

    return number
