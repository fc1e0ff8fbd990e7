"""A measured profile as a safetensors file, so that it can be shared with a workflow."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..engine.actions import ATTENTION_KINDS, AttentionKind
from .profile import ConvergenceProfile

SUFFIX = ".probe.safetensors"
FORMAT = "tgate-probe"
VERSION = "1"
# The largest networks have a few hundred attentions; 10,000 steps of 500 of them take 20 MB.
MAX_BYTES = 64 * 2**20
_NAMES: dict[AttentionKind, str] = {"attn1": "self", "attn2": "cross"}


class ProbeFileError(ValueError):
    """A file that holds no measurement; the text says what is wrong with it."""


def save_profile(profile: ConvergenceProfile, path: Path) -> None:
    """Write a profile; its folder has to be there."""
    tensors = {"sigmas": _row(profile.sigmas), "cosines": _row(profile.cosines)}
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "network": profile.network,
        "signature": profile.signature,
    }
    for kind in ATTENTION_KINDS:
        sites = profile.changes[kind]
        rows = [_row(values) for values in sites.values()]
        tensors[_NAMES[kind]] = torch.stack(rows) if rows else torch.empty(0, profile.steps)
        metadata[_NAMES[kind]] = json.dumps(list(sites))
    save_file(tensors, path, metadata)


def load_profile(path: Path) -> ConvergenceProfile:
    """Read a profile.

    Raises:
        ProbeFileError: the file is none, or not whole.
    """
    if not path.is_file():
        raise ProbeFileError(f"TGATE: there is no file {path.name}; choose another.")
    if path.stat().st_size > MAX_BYTES:
        raise ProbeFileError(f"TGATE: {path.name} is too large for a probe (over {MAX_BYTES // 2**20} MiB).")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = set(file.keys())
            if metadata.get("format") != FORMAT or not {"sigmas", "cosines", *_NAMES.values()} <= names:
                raise ProbeFileError(f"TGATE: {path.name} is a safetensors file, but not one of TGATE Save Probe.")
            tensors = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise ProbeFileError(
            f"TGATE: {path.name} is cut short, or no safetensors file ({error}); save the probe again."
        ) from error
    if metadata.get("version") != VERSION:
        raise ProbeFileError(f"TGATE: {path.name} was made by a newer TGATE; update this pack.")
    try:
        return _profile(tensors, metadata)
    except (KeyError, TypeError, ValueError) as error:
        raise ProbeFileError(f"TGATE: {path.name} does not fit together ({error}); save the probe again.") from error


def _profile(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> ConvergenceProfile:
    sigmas = _numbers(tensors["sigmas"], 1)
    steps = len(sigmas)
    if not sigmas or not all(math.isfinite(sigma) for sigma in sigmas):
        raise ValueError("no noise levels")
    changes: dict[AttentionKind, dict[str, tuple[float, ...]]] = {}
    for kind, name in _NAMES.items():
        sites = json.loads(metadata[name])
        rows = _numbers(tensors[name], 2)
        if not isinstance(sites, list) or len(sites) != len(rows) or len(set(map(str, sites))) != len(sites):
            raise ValueError(f"{len(rows)} rows of {name}-attention for other sites")
        if any(len(row) != steps for row in rows):
            raise ValueError(f"{name}-attention with other steps")
        changes[kind] = {str(site): tuple(row) for site, row in zip(sites, rows, strict=True)}
    cosines = _numbers(tensors["cosines"], 1)
    if len(cosines) != steps:
        raise ValueError("cosines of other steps")
    return ConvergenceProfile(metadata["network"], metadata["signature"], tuple(sigmas), changes, tuple(cosines))


def _row(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def _numbers(tensor: Tensor, dimensions: int) -> list[Any]:
    if tensor.dtype != torch.float32 or tensor.ndim != dimensions:
        raise ValueError(f"a tensor of {tensor.dtype} in {tensor.ndim} dimensions")
    numbers: list[Any] = tensor.tolist()
    return numbers
