"""A measurement, in the environment's python: `python -m tgate_dev.bench NAME`, with TGATE_COMFYUI set."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

import torch

from ..errors import UserError
from .timing.options import add_arguments

BAD_USE = 2


def main() -> int:
    """Runs one measurement; 1 if a published number was missed, 2 for what the user can put right."""
    parser = argparse.ArgumentParser(prog="tgate_dev.bench")
    measurements = parser.add_subparsers(required=True)
    for name, measure in (("macs", _macs), ("support", _support), ("time", _time)):
        measurements.add_parser(name).set_defaults(measure=measure)
    add_arguments(measurements.choices["time"])
    options = parser.parse_args()
    sys.path.insert(0, os.environ["TGATE_COMFYUI"])
    try:
        return int(options.measure(options))
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return BAD_USE


def _load(on_cpu: bool) -> dict[str, Any]:
    """The pack's nodes; the host looks at its arguments once, when its modules are first imported."""
    from comfy.cli_args import args as host_arguments

    from .pack import load_pack_nodes

    host_arguments.cpu = on_cpu
    return load_pack_nodes()


def _load_to_count() -> dict[str, Any]:
    from comfy.cli_args import args as host_arguments

    # The kernel that the counting knows.
    host_arguments.use_pytorch_cross_attention = True
    # Shapes give a second thread nothing to do.
    torch.set_num_threads(1)
    return _load(on_cpu=True)


def _macs(_options: argparse.Namespace) -> int:
    nodes = _load_to_count()
    from . import published

    print(published.HEADING, flush=True)
    are_off = []
    for row in published.PUBLISHED_ROWS:
        macs = published.row_macs(row, nodes)
        are_off.append(published.is_off(row, macs))
        print(published.line(row, macs), flush=True)
    print(published.summary(are_off))
    return int(any(are_off))


def _support(_options: argparse.Namespace) -> int:
    nodes = _load_to_count()
    from . import support

    print(support.HEADING, flush=True)
    for run in support.USUAL_RUNS:
        print(support.line(run, nodes), flush=True)
    return 0


def _time(options: argparse.Namespace) -> int:
    has_gpu = torch.cuda.is_available()
    if options.device == "cuda" and not has_gpu:
        raise UserError("torch finds no graphics card here: use --device cpu.")
    options.device = options.device or ("cuda" if has_gpu else "cpu")
    nodes = _load(on_cpu=options.device == "cpu")
    from .timing.command import run

    run(options, nodes)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
