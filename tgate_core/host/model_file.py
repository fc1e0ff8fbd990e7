"""The family of a model that is not loaded: from the header of its file, which names its weights and their shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy import model_detection

from .architectures import architecture_of_config
from .networks import PLAYGROUND, family_of_config, scope_of_architecture

SAFETENSORS = (".safetensors", ".sft")
# Of a safetensors file: the header's length, and most of it that is read; the largest models have less than 1 MB.
LENGTH_BYTES, MOST_BYTES = 8, 32 * 2**20
_METADATA = "__metadata__"
_PLAYGROUND_WEIGHTS = {"edm_mean", "edm_std"}


def family_of_file(kind: str, name: str) -> str | None:
    """Preset family of a model's file, or the scope of one not gated whole; None where its header does not tell.

    Args:
        kind: of files, by the host's name, such as "checkpoints".
        name: as the host's loaders list it; no other file is opened.
    """
    if not name.endswith(SAFETENSORS) or name not in folder_paths.get_filename_list(kind):
        return None
    path = folder_paths.get_full_path(kind, name)
    try:
        return None if path is None else _family(*_read(Path(path)))
    except Exception:  # whatever a file holds: the family is known after a run
        return None


def _read(file: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The file's weights by name, as shapes alone, and what it says of itself."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(LENGTH_BYTES), "little")
        if length > min(MOST_BYTES, file.stat().st_size):
            raise ValueError("not a safetensors file")
        header: dict[str, Any] = json.loads(opened.read(length))
    metadata: dict[str, str] = header.pop(_METADATA, {})
    return {weight: torch.empty(entry["shape"], device="meta") for weight, entry in header.items()}, metadata


def _family(weights: dict[str, torch.Tensor], metadata: dict[str, str]) -> str | None:
    is_whole = any(weight.startswith(("model.", "net.")) for weight in weights)
    prefix = model_detection.unet_prefix_from_state_dict(weights) if is_whole else ""
    config = model_detection.model_config_from_unet(weights, prefix, metadata=metadata)
    if config is None:
        return None
    scope = scope_of_architecture(architecture_of_config(config))
    if scope != "all":
        return scope
    return PLAYGROUND if weights.keys() >= _PLAYGROUND_WEIGHTS else family_of_config(type(config))
