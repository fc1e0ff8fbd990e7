"""Packages that the host imports by name and a sampling run never uses: where they are missing, empty modules do.

Together they are larger than all else in a bundle.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# Videos, statistics of other schedulers, text encoders.
STAND_INS = ("av", "scipy", "sentencepiece", "tokenizers", "transformers")


def allow() -> None:
    """Let stand-ins be imported from now on, behind everything that is installed."""
    # Which asks some of them what they cannot tell, and does without those that are missing.
    with suppress(ImportError):
        importlib.import_module("torchvision")
    sys.meta_path.append(_StandIns())


class _StandIns(MetaPathFinder, Loader):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.partition(".")[0] in STAND_INS else None

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__getattr__"] = _empty_class


def _empty_class(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {})
