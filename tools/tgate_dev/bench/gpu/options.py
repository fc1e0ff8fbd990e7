"""The options of `bench gpu`. Free of torch: the developer tool parses them as well."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..timing.options import at_least


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    names_help = "parts to run, with * for any text (sdxl-*-compiled); all of them by default"
    parser.add_argument("parts", nargs="*", default=["*"], metavar="PART", help=names_help)
    parser.add_argument("--runs", type=at_least(1), default=3, metavar="N", help="runs of each row")
    minutes_help = "time for a part, which goes on where it stopped when it is run again"
    parser.add_argument("--minutes", type=at_least(1), default=9, metavar="N", help=minutes_help)
    out_help = "folder for the results, to which each run adds"
    parser.add_argument("--out", type=Path, default=Path("bench-output"), metavar="DIR", help=out_help)
    parser.add_argument("--rehearse", action="store_true", help="tiny networks and few steps, on the CPU")
    bundle_help = "measure nothing; pack all that a Linux machine with torch, a card and no network needs into DIR"
    parser.add_argument("--bundle", type=Path, metavar="DIR", help=bundle_help)
    parser.add_argument("--python", metavar="X.Y", help="Python of the bundle's machine; default: this one's version")
