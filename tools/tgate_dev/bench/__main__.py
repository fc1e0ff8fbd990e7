"""`dev.py bench` and `dev.py support`, in ComfyUI's Python, from the command line that the user gave."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

import torch

from ..cli import parse
from ..errors import UserError, exit_code
from .gpu import stand_ins

# The module of each, whose `measure` takes the options and the pack's nodes and returns the process's exit code.
MEASUREMENTS = {
    "gpu": ".gpu.command",
    "macs": ".macs",
    "quality": "..quality.command",
    "reuse": ".reuse",
    "support": ".support",
    "time": ".timing.rounds",
}


def main() -> int:
    """Runs one measurement; 1 if a published number was missed.

    Raises:
        UserError: the options do not fit this machine, or what they name is not there.
    """
    options = parse(sys.argv[1:])
    name = getattr(options, "measurement", options.command)
    sys.path.insert(0, os.environ["TGATE_COMFYUI"])
    if name == "gpu":
        stand_ins.allow()
    _prepare_host(name, options)
    from .pack import load_pack_nodes

    nodes = load_pack_nodes()
    module = importlib.import_module(MEASUREMENTS[name], __package__)
    return int(module.measure(options, nodes))


def _prepare_host(name: str, options: argparse.Namespace) -> None:
    """Sets the host's arguments, at which it looks when its modules are first imported, and the device of runs."""
    from comfy.cli_args import args as host_arguments

    if name == "time":
        has_gpu = torch.cuda.is_available()
        if options.device == "cuda" and not has_gpu:
            raise UserError("torch finds no graphics card here: use --device cpu.")
        options.device = options.device or ("cuda" if has_gpu else "cpu")
        host_arguments.cpu = options.device == "cpu"
    elif name == "gpu":
        if not (options.rehearse or torch.cuda.is_available()):
            raise UserError(
                "torch finds no graphics card here: use --rehearse to try it, or --bundle for another machine."
            )
        options.device = "cpu" if options.rehearse else "cuda"
        host_arguments.cpu = options.rehearse
        # Parts choose others themselves.
        host_arguments.use_pytorch_cross_attention = True
    elif name == "quality":
        host_arguments.cpu = options.checkpoint is None or not torch.cuda.is_available()
        # What the host takes on most graphics cards.
        host_arguments.use_pytorch_cross_attention = True
    else:
        host_arguments.cpu = True
        # The kernel that the counting knows.
        host_arguments.use_pytorch_cross_attention = True
        # Shapes give a second thread nothing to do.
        torch.set_num_threads(1)


if __name__ == "__main__":
    sys.exit(exit_code(main))
