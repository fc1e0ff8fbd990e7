"""Pictures as the host's IMAGE."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from comfy_api.latest import io, ui
from PIL import Image

from .ui_events import node_id_of


def as_image(picture: Image.Image) -> torch.Tensor:
    """A picture as (1, H, W, 3), values from 0 to 1."""
    return torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32) / 255.0).unsqueeze(0)


def shown_on(node: type[io.ComfyNode], image: torch.Tensor, text: str) -> dict[str, Any]:
    """What a node shows on itself: a picture (1, H, W, 3), and a text. Outside of a server, the text alone."""
    if node_id_of(node.hidden) is None:
        return {"text": (text,)}
    return {**ui.PreviewImage(image, cls=node).as_dict(), "text": (text,)}
