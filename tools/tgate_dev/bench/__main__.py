"""A measurement, in the environment's python: `python -m tgate_dev.bench NAME`, with TGATE_COMFYUI set."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

import torch

from ..errors import UserError
from .timing.options import add_arguments

# The module of each, whose `measure` takes the options and the pack's nodes and returns the process's exit code.
MEASUREMENTS = {"macs": "published", "support": "support", "time": "timing.rounds"}
BAD_USE = 2


def main() -> int:
    """Runs one measurement; 1 if a published number was missed, 2 for what the user can put right."""
    parser = argparse.ArgumentParser(prog="tgate_dev.bench")
    commands = parser.add_subparsers(dest="measurement", required=True)
    for name in MEASUREMENTS:
        commands.add_parser(name)
    add_arguments(commands.choices["time"])
    options = parser.parse_args()
    sys.path.insert(0, os.environ["TGATE_COMFYUI"])
    try:
        _prepare_host(options)
        from .pack import load_pack_nodes

        nodes = load_pack_nodes()
        module = importlib.import_module(f".{MEASUREMENTS[options.measurement]}", __package__)
        return int(module.measure(options, nodes))
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return BAD_USE


def _prepare_host(options: argparse.Namespace) -> None:
    """Sets the host's arguments, at which it looks when its modules are first imported, and the device of `time`."""
    from comfy.cli_args import args as host_arguments

    if options.measurement == "time":
        has_gpu = torch.cuda.is_available()
        if options.device == "cuda" and not has_gpu:
            raise UserError("torch finds no graphics card here: use --device cpu.")
        options.device = options.device or ("cuda" if has_gpu else "cpu")
        host_arguments.cpu = options.device == "cpu"
    else:
        host_arguments.cpu = True
        # The kernel that the counting knows.
        host_arguments.use_pytorch_cross_attention = True
        # Shapes give a second thread nothing to do.
        torch.set_num_threads(1)


if __name__ == "__main__":
    raise SystemExit(main())
