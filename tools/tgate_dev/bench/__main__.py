"""A measurement, in the environment's python: `python -m tgate_dev.bench NAME`, with TGATE_COMFYUI set."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from typing import Any

from ..errors import UserError
from .pack import load_pack_nodes
from .timing.options import TimeOptions, add_arguments, from_namespace

BAD_USE = 2


def main() -> int:
    """Runs one measurement; 1 if a published number was missed."""
    parser = argparse.ArgumentParser(prog="tgate_dev.bench")
    measurements = parser.add_subparsers(dest="measurement", required=True)
    for name in ("macs", "support"):
        measurements.add_parser(name)
    add_arguments(measurements.add_parser("time"))
    parsed = parser.parse_args()
    sys.path.insert(0, os.environ["TGATE_COMFYUI"])
    if parsed.measurement == "time":
        return _time(from_namespace(parsed))
    _count_on_shapes()
    nodes = load_pack_nodes()
    return _macs(nodes) if parsed.measurement == "macs" else _support(nodes)


def _count_on_shapes() -> None:
    import torch
    from comfy.cli_args import args as host_arguments

    host_arguments.cpu = True
    # Shapes give a second thread nothing to do.
    torch.set_num_threads(1)


def _macs(nodes: dict[str, Any]) -> int:
    from .published import PUBLISHED_ROWS
    from .rows import row_macs
    from .tables import PUBLISHED_HEADING, CountedRow, published_line, published_summary

    print(PUBLISHED_HEADING, flush=True)
    counted = []
    for row in PUBLISHED_ROWS:
        counted.append(CountedRow(row, row_macs(row, nodes)))
        print(published_line(counted[-1]), flush=True)
    print(published_summary(counted))
    return int(any(one.is_off for one in counted))


def _support(nodes: dict[str, Any]) -> int:
    from .support import HEADING, support_line
    from .usual import USUAL_RUNS

    print(HEADING, flush=True)
    for run in USUAL_RUNS:
        print(support_line(run, nodes), flush=True)
    return 0


def _time(options: TimeOptions) -> int:
    import torch
    from comfy.cli_args import args as host_arguments

    has_gpu = torch.cuda.is_available()
    if options.device == "cuda" and not has_gpu:
        sys.stderr.write("torch finds no graphics card here: use --device cpu.\n")
        return BAD_USE
    device = options.device or ("cuda" if has_gpu else "cpu")
    host_arguments.cpu = device == "cpu"
    nodes = load_pack_nodes()
    # Only now: the host looks at its arguments once, when its modules are first imported.
    from .timing.command import run

    try:
        return run(replace(options, device=device), nodes)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return BAD_USE


if __name__ == "__main__":
    raise SystemExit(main())
