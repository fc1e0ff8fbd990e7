"""The family of a model that is not loaded: from the header of its file, which names its weights and their shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy import model_detection

from .architectures import INLINE_NAMES_IN_FILES, JOINT_NAMES_IN_FILES, NAMES_IN_FILES
from .networks import PLAYGROUND, family_of_config

SAFETENSORS = (".safetensors", ".sft")
# Of a safetensors file: the header's length, and most of it that is read; the largest models have less than 1 MB.
LENGTH_BYTES, MOST_BYTES = 8, 32 * 2**20
_METADATA = "__metadata__"
# Of the host's reading of an SD 3 file, which has no name for that network.
_SD3_WEIGHTS = "x_block_self_attn_layers"
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
        return None if path is None else _family(_weights(Path(path)))
    except Exception:  # whatever a file holds: the family is known after a run
        return None


def _weights(file: Path) -> dict[str, torch.Tensor]:
    """The file's weights by name, as shapes alone."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(LENGTH_BYTES), "little")
        if length > min(MOST_BYTES, file.stat().st_size):
            raise ValueError("not a safetensors file")
        header: dict[str, Any] = json.loads(opened.read(length))
    return {
        weight: torch.empty(entry["shape"], device="meta") for weight, entry in header.items() if weight != _METADATA
    }


def _family(weights: dict[str, torch.Tensor]) -> str | None:
    is_whole = any(weight.startswith(("model.", "net.")) for weight in weights)
    prefix = model_detection.unet_prefix_from_state_dict(weights) if is_whole else ""
    config = model_detection.model_config_from_unet(weights, prefix)
    if config is None:
        return None
    network = config.unet_config
    name = network.get("image_model") or network.get("audio_model") or ("unet" if "model_channels" in network else "")
    if name not in NAMES_IN_FILES:
        is_inline = name in INLINE_NAMES_IN_FILES or _SD3_WEIGHTS in network
        rest = "inline joint attention" if is_inline else "guidance alone"
        return "joint attention" if name in JOINT_NAMES_IN_FILES else rest
    return PLAYGROUND if weights.keys() >= _PLAYGROUND_WEIGHTS else family_of_config(type(config))
