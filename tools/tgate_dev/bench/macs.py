"""`dev.py bench macs`: the published table, and the shares of work that the strip adds up."""

from __future__ import annotations

from typing import Any

from . import published, shares
from .pack import Nodes


def measure(options: Any, nodes: Nodes) -> int:
    """Print both; 1 if a number is missed."""
    missed = published.measure(options, nodes)
    print(flush=True)
    return missed | shares.measure(options, nodes)
