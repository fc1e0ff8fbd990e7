"""The options of `bench quality`. Free of torch: the developer tool parses them as well."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..environment import PACK

NETWORKS = ("unet", "dit", "joint")
HALVES = ("choose", "report")
# In the order in which they are measured: what is most in use comes first.
FULL: dict[str, Any] = {
    "networks": [*NETWORKS],
    "steps": [25, 15, 50],
    "samplers": ["euler", "dpmpp_2m", "er_sde", "euler_ancestral"],
    "cfg": [4.0, 7.0],
    "methods": [],
    "prompts": "96",
    "out": PACK / "docs" / "quality",
}
QUICK: dict[str, Any] = {
    "networks": ["unet"],
    "steps": [15],
    "samplers": ["euler"],
    "cfg": [4.0],
    "methods": ["TGATE Apply", "EasyCache 0.05", "EasyCache 0.2"],
    "prompts": "48",
    "out": Path("bench-output") / "quality",
}
# A checkpoint of full size takes its time.
CHECKPOINT: dict[str, Any] = {"steps": [25], "samplers": ["dpmpp_2m"], "cfg": [7.0], "out": QUICK["out"]}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options to a parser."""
    parser.add_argument("--quick", action="store_true", help="a small part of the grid, in some minutes")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, help="those without weights are left out")
    parser.add_argument("--steps", type=int, nargs="+", metavar="N", help="sampling steps")
    parser.add_argument("--samplers", nargs="+", metavar="NAME", help="the host's names of them")
    parser.add_argument("--cfg", type=float, nargs="+", metavar="X", help="strengths of guidance")
    parser.add_argument("--methods", nargs="+", metavar="TEXT", help="only methods whose names hold one of these texts")
    parser.add_argument("--prompts", metavar="N|FILE", help="how many; with --checkpoint a text file, one a line")
    half_help = "which half of the prompts: one to choose settings by, one to report"
    parser.add_argument("--half", choices=[*HALVES, "all"], default="all", help=half_help)
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="measure this checkpoint, without the judge")
    parser.add_argument("--pixels", type=int, default=512, metavar="N", help="side of a checkpoint's pictures")
    parser.add_argument("--peers", type=Path, nargs="+", default=[], metavar="DIR", help="folders of other packs")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the results, those of an earlier run too")


def fill_in(options: argparse.Namespace) -> None:
    """Set what was not given."""
    defaults = {**FULL, **(CHECKPOINT if options.checkpoint else {}), **(QUICK if options.quick else {})}
    for name, value in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
