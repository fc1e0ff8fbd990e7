"""The video model of the parity check, in terms that both sides understand. Needs numpy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from parity_cases import CONTEXT_DIM, LATENT_CHANNELS, Case, draw_input

NAME = "svd"
# SVD fixes 64 channels per head; its last level has no transformer. One residual block per level.
CHANNELS = (64, 128)
HEADS = (1, 2)
TRANSFORMER_DEPTH = (1, 0)

FRAMES = 3
FIRST_FRAME_CFG = 1.5  # guidance rises from here to the case's own at the last frame
FPS = 7
MOTION_BUCKET_ID = 127
AUGMENTATION_LEVEL = 0.02


@dataclass(frozen=True)
class VideoInputs:
    """Noise (frames, 4, height, width); the picture's latents (1, 4, height, width) and its embedding (1, context)."""

    noise: NDArray[np.float32]
    image_latents: NDArray[np.float32]
    image_embedding: NDArray[np.float32]


def make_video_inputs(case: Case) -> VideoInputs:
    """The inputs of a case: runs of one size share them."""
    return VideoInputs(
        noise=draw_input(NAME, "noise", FRAMES, LATENT_CHANNELS, case.height, case.width),
        image_latents=draw_input(NAME, "image latents", 1, LATENT_CHANNELS, case.height, case.width),
        image_embedding=draw_input(NAME, "image embedding", 1, CONTEXT_DIM),
    )
