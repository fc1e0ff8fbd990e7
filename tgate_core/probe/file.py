"""A measured profile as a safetensors file, so that it can be shared with a workflow."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..engine.actions import ATTENTION_KINDS, AttentionKind
from ..engine.inputs import MAX_STEPS, shown
from .profile import ConvergenceProfile

SUFFIX = ".probe.safetensors"
FORMAT = "tgate-probe"
VERSION = "1"
# The largest networks have a few hundred attentions; 10,000 steps of 500 of each kind take 40 MB.
MAX_BYTES = 64 * 2**20
# The names of 500 attentions take 20 KB. A header is read whole, and first of all.
MAX_HEADER_BYTES = 2**20
_HEADER_SIZE_BYTES = 8
# Of a name, and of a reason in an error.
MOST_LETTERS = 200
_NAMES: dict[AttentionKind, str] = {"attn1": "self", "attn2": "cross"}
_TENSORS = {"sigmas", "cosines", *_NAMES.values()}
_METADATA = {"network", "signature", *_NAMES.values()}


class ProbeFileError(ValueError):
    """A file that holds no measurement; the text says what is wrong with it."""


def save_profile(profile: ConvergenceProfile, path: Path) -> None:
    """Write a profile into a new file, whole or not at all; its folder has to be there.

    Raises:
        FileExistsError: there is a file of this name; it is left as it is.
        OSError: the name will not do, or the disk is full.
        ProbeFileError: `load_profile` would refuse the file.
    """
    try:
        _check(profile)
    except ValueError as error:
        raise ProbeFileError(f"TGATE: the probe cannot be saved: it has {error}; measure again.") from error
    tensors = {"sigmas": _row(profile.sigmas), "cosines": _row(profile.cosines)}
    metadata = {"format": FORMAT, "version": VERSION, "network": profile.network, "signature": profile.signature}
    for kind in ATTENTION_KINDS:
        sites = profile.changes[kind]
        rows = [_row(values) for values in sites.values()]
        tensors[_NAMES[kind]] = torch.stack(rows) if rows else torch.empty(0, profile.steps)
        metadata[_NAMES[kind]] = json.dumps(list(sites))
    _write_new(path, save(tensors, metadata))


def load_profile(path: Path) -> ConvergenceProfile:
    """Read a profile.

    Raises:
        ProbeFileError: the file is none, or not whole.
    """
    name = shown(path.name)
    try:
        return _read(path, name)
    except ProbeFileError:
        raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ProbeFileError(f"TGATE: {name} cannot be read ({reason}); choose another.") from error
    except SafetensorError as error:
        reason = shorten(str(error), MOST_LETTERS)
        raise ProbeFileError(
            f"TGATE: {name} is cut short, or no safetensors file ({reason}); save the probe again."
        ) from error
    except (ValueError, RecursionError) as error:
        reason = shorten(str(error), MOST_LETTERS)
        raise ProbeFileError(f"TGATE: {name} does not fit together ({reason}); save the probe again.") from error


def _write_new(path: Path, content: bytes) -> None:
    file = path.open("xb")
    try:
        with file:
            file.write(content)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _read(path: Path, name: str) -> ConvergenceProfile:
    if not path.is_file():
        raise ProbeFileError(f"TGATE: there is no file {name}; choose another.")
    if path.stat().st_size > MAX_BYTES:
        raise ProbeFileError(f"TGATE: {name} is too large for a probe (over {MAX_BYTES // 2**20} MiB).")
    with path.open("rb") as start:
        header_bytes = int.from_bytes(start.read(_HEADER_SIZE_BYTES), "little")
    if MAX_HEADER_BYTES < header_bytes < MAX_BYTES:  # beyond, it is no safetensors file
        raise ProbeFileError(f"TGATE: {name} describes too much for a probe (over {MAX_HEADER_BYTES // 2**20} MiB).")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        is_ours = metadata.get("format") == FORMAT
        if is_ours and metadata.get("version") != VERSION:
            raise ProbeFileError(f"TGATE: {name} was made by a newer TGATE; update this pack.")
        if not is_ours or set(file.keys()) != _TENSORS or _METADATA - metadata.keys():
            raise ProbeFileError(f"TGATE: {name} is a safetensors file, but not one of TGATE Save Probe.")
        return _profile(file, metadata)


def _profile(file: Any, metadata: Mapping[str, str]) -> ConvergenceProfile:
    """What an open safetensors file holds; the shape of a tensor is looked at before it is loaded."""
    steps = (file.get_slice("sigmas").get_shape() or [0])[0]
    changes: dict[AttentionKind, dict[str, tuple[float, ...]]] = {}
    for kind, name in _NAMES.items():
        sites = json.loads(metadata[name])
        if not isinstance(sites, list) or not all(isinstance(site, str) for site in sites):
            raise ValueError(f"no names of {name}-attentions")
        rows = _values(file, name, len(sites), steps)
        changes[kind] = {site: tuple(row) for site, row in zip(sites, rows, strict=True)}
        if len(changes[kind]) != len(sites):
            raise ValueError(f"two {name}-attentions of one name")
    profile = ConvergenceProfile(
        network=metadata["network"],
        signature=metadata["signature"],
        sigmas=tuple(_values(file, "sigmas", steps)),
        changes=changes,
        cosines=tuple(_values(file, "cosines", steps)),
    )
    _check(profile)
    return profile


def _check(profile: ConvergenceProfile) -> None:
    """What holds of every profile in a file.

    Raises:
        ValueError: the text says what it has instead.
    """
    if not 0 < profile.steps <= MAX_STEPS:
        raise ValueError(f"{profile.steps} steps instead of 1 to {MAX_STEPS}")
    if not all(math.isfinite(sigma) for sigma in profile.sigmas):
        raise ValueError("no noise levels")
    names = [profile.network, profile.signature, *(site for sites in profile.changes.values() for site in sites)]
    if not all(0 < len(name) <= MOST_LETTERS for name in names):
        raise ValueError(f"names of other lengths than 1 to {MOST_LETTERS} letters")
    changes = profile.changes[profile.gated_kind].values()
    if not any(math.isfinite(value) for values in changes for value in values):
        raise ValueError("no change of any attention to go by")


def _row(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def _values(file: Any, name: str, *shape: int) -> list[Any]:
    """A tensor of an open file as lists.

    Raises:
        ValueError: it has another shape or kind of numbers.
    """
    found = file.get_slice(name).get_shape()
    if found != list(shape):
        raise ValueError(f"{name} of shape {found} instead of {list(shape)}")
    tensor: Tensor = file.get_tensor(name)
    if tensor.dtype != torch.float32:
        raise ValueError(f"{name} of {tensor.dtype}")
    values: list[Any] = tensor.tolist()
    return values
