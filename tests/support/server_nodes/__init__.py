"""Custom nodes for the tests on a server: random conditioning where the host's own nodes need encoders of full size."""

from __future__ import annotations

import zlib
from typing import Any

import torch

TOKENS = 8
TEXT_WIDTH = 4096
PICTURE_WIDTH = 1024


def noise(name: str, *shape: int) -> torch.Tensor:
    """Random values, the same for the same name."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))


class RandomText:
    """In the place of CLIPTextEncode; without a width, for models that read T5."""

    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "execute"
    CATEGORY = "tgate_test"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - the host's name
        names = ("text_width", "width", "height")
        return {"required": {"text": ("STRING", {})}, "optional": {name: ("INT", {}) for name in names}}

    def execute(self, text: str, text_width: int = TEXT_WIDTH, **picture_size: int) -> tuple[Any]:
        mask = torch.ones(1, TOKENS, dtype=torch.int64)
        return ([[noise(text, 1, TOKENS, text_width), {"attention_mask": mask, **picture_size}]],)


class RandomPicture:
    """In the place of SVD_img2vid_Conditioning."""

    RETURN_TYPES = ("CONDITIONING", "CONDITIONING", "LATENT")
    FUNCTION = "execute"
    CATEGORY = "tgate_test"
    SETTINGS = ("width", "height", "video_frames", "motion_bucket_id", "fps")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - the host's name
        return {"required": {**{name: ("INT", {}) for name in cls.SETTINGS}, "augmentation_level": ("FLOAT", {})}}

    def execute(self, width: int, height: int, video_frames: int, **settings: float) -> tuple[Any, Any, Any]:
        size = (height // 8, width // 8)
        embedding, start = noise("embedding", 1, 1, PICTURE_WIDTH), noise("start", 1, 4, *size)
        positive = [[embedding, {**settings, "concat_latent_image": start}]]
        negative = [[torch.zeros_like(embedding), {**settings, "concat_latent_image": torch.zeros_like(start)}]]
        return positive, negative, {"samples": torch.zeros(video_frames, 4, *size)}


NODE_CLASS_MAPPINGS = {"TGATETestRandomText": RandomText, "TGATETestRandomPicture": RandomPicture}
