"""Pictures as the host's IMAGE."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image


def as_image(picture: Image.Image) -> torch.Tensor:
    """A picture as (1, H, W, 3), values from 0 to 1."""
    return torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32) / 255.0).unsqueeze(0)
