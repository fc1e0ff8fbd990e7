"""Is this file a checkpoint that the demo can use? Told from its header, without reading the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .errors import UserError

PICKLED = (".ckpt", ".pt", ".pth", ".bin")
# How files begin that torch.save wrote: a zip archive, or in older versions a pickle.
PICKLED_STARTS = (b"PK", b"\x80")
NOT_SAFETENSORS = "it is not in the safetensors format"
CUT_OFF = "it ends too early, as after a download that was cut off"
LONGEST_HEADER = 100 * 2**20
UNET = "model.diffusion_model.input_blocks.0.0.weight"
VAE = "first_stage_model."
TEXT_ENCODERS = ("cond_stage_model.", "conditioner.")
# In the UNet of SD 1.5, text has this many channels; SD 2 has 1024, SDXL 2048.
SD15_TEXT_CHANNELS = 768


class UnreadableError(Exception):
    """A file is no complete safetensors file; the text says why."""


def read_header(path: Path) -> dict[str, Any]:
    """Names, types and shapes of what a safetensors file holds.

    Raises:
        UnreadableError: it is not such a file, or not all of it is there.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= LONGEST_HEADER or file.peek(1)[:1] != b"{":
                raise UnreadableError(NOT_SAFETENSORS)
            if length > size - 8:
                raise UnreadableError(CUT_OFF)
            header = json.loads(file.read(length))
        entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UnreadableError(NOT_SAFETENSORS) from error
    if size < 8 + length + end:
        raise UnreadableError(CUT_OFF)
    return entries


def usable(path: Path) -> Path:
    """The path of a checkpoint that the user named, in full.

    Raises:
        UserError: there is no such file, or it cannot be used.
    """
    path = path.expanduser().absolute()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"The checkpoint {path} {what}: give --checkpoint the path of a checkpoint file.")
    try:
        if path.suffix.lower() in PICKLED:
            _check_pickled(path)
            return path
        header = read_header(path)
    except UnreadableError as error:
        raise UserError(f"The checkpoint {path} cannot be read ({error}): choose another file.") from error
    if not is_complete(header):
        raise UserError(
            f"{path} is not a whole checkpoint: choose one that holds UNet, text encoder and VAE, as an SD 1.5 or "
            "SDXL checkpoint does."
        )
    return path


def _check_pickled(path: Path) -> None:
    # No more can be told of such a file without running what is in it; the host reads it safely, and says if it cannot.
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from error
    if not start.startswith(PICKLED_STARTS):
        raise UnreadableError("it is not in the format of torch")


def is_complete(header: dict[str, Any]) -> bool:
    """Whether a file holds a UNet, a text encoder and a VAE."""
    has_vae = any(name.startswith(VAE) for name in header)
    has_text_encoder = any(name.startswith(TEXT_ENCODERS) for name in header)
    return UNET in header and has_vae and has_text_encoder


def is_sd15(header: dict[str, Any]) -> bool:
    """Whether a complete checkpoint's UNet is of the SD 1.5 family."""
    projections = (entry for name, entry in header.items() if name.endswith("attn2.to_k.weight"))
    first = next(projections, None)
    return is_complete(header) and first is not None and first["shape"][1] == SD15_TEXT_CHANNELS


def find(folder: Path, wanted: str) -> Path | None:
    """A checkpoint in a folder of checkpoints: the one a workflow names, else the first of the SD 1.5 family."""
    named = folder / wanted
    candidates = [named, *sorted(folder.glob("**/*.safetensors"))]
    return next((path for path in candidates if path.is_file() and _fits(path, is_named=path == named)), None)


def _fits(path: Path, is_named: bool) -> bool:
    try:
        header = read_header(path)
    except UnreadableError:
        return False
    return is_complete(header) if is_named else is_sd15(header)
