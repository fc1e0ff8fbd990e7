"""Custom nodes for the tests on a server: random conditioning where the host's own nodes need encoders of full size."""

from __future__ import annotations

import zlib
from typing import Any

import comfy.clip_vision
import torch

TOKENS = 8
TEXT_WIDTH = 4096
MT5_WIDTH = 2048
PICTURE_WIDTH = 1024
# Of the picture encoder that Wan reads.
VISION = (257, 1280)
VIDEO_CHANNELS = 16


def noise(name: str, *shape: int) -> torch.Tensor:
    """Random values, the same for the same name."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))


class RandomText:
    """In the place of CLIPTextEncode; without widths, for models that read T5."""

    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "execute"
    CATEGORY = "tgate_test"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - the host's name
        names = ("tokens", "text_width", "pooled_width", "mt5_tokens", "width", "height")
        return {"required": {"text": ("STRING", {})}, "optional": {name: ("INT", {}) for name in names}}

    def execute(
        self,
        text: str,
        tokens: int = TOKENS,
        text_width: int = TEXT_WIDTH,
        pooled_width: int = 0,
        mt5_tokens: int = 0,
        **picture_size: int,
    ) -> tuple[Any]:
        options: dict[str, Any] = {"attention_mask": torch.ones(1, tokens, dtype=torch.int64), **picture_size}
        if pooled_width:
            options["pooled_output"] = noise(f"{text}, pooled", 1, pooled_width)
        if mt5_tokens:
            options["conditioning_mt5xl"] = noise(f"{text}, mt5", 1, mt5_tokens, MT5_WIDTH)
            options["attention_mask_mt5xl"] = torch.ones(1, mt5_tokens)
        return ([[noise(text, 1, tokens, text_width), options]],)


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


class RandomVideoStart:
    """In the place of WanImageToVideo and Kandinsky5ImageToVideo."""

    RETURN_TYPES = ("CONDITIONING", "CONDITIONING", "LATENT")
    FUNCTION = "execute"
    CATEGORY = "tgate_test"
    SETTINGS = ("width", "height", "length", "batch_size")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - the host's name
        conds = {name: ("CONDITIONING", {}) for name in ("positive", "negative")}
        return {"required": {**conds, **{name: ("INT", {}) for name in cls.SETTINGS}}}

    def execute(
        self, positive: Any, negative: Any, width: int, height: int, length: int, batch_size: int
    ) -> tuple[Any, Any, Any]:
        size = ((length - 1) // 4 + 1, height // 8, width // 8)
        seen = comfy.clip_vision.Output()
        seen.penultimate_hidden_states = noise("vision", 1, *VISION)
        start = {
            "concat_latent_image": noise("start", 1, VIDEO_CHANNELS, *size),
            "concat_mask": torch.zeros(1, 1, *size),
            "clip_vision_output": seen,
        }
        conds = ([[text, {**options, **start}] for text, options in branch] for branch in (positive, negative))
        return (*conds, {"samples": torch.zeros(batch_size, VIDEO_CHANNELS, *size)})


class Anything:
    """A text, by an output that may be connected to any input, as nodes of many packs have one."""

    RETURN_TYPES = ("*",)
    FUNCTION = "execute"
    CATEGORY = "tgate_test"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - the host's name
        return {"required": {"text": ("STRING", {})}}

    def execute(self, text: str) -> tuple[Any]:
        return (text,)


NODE_CLASS_MAPPINGS = {
    "TGATETestAnything": Anything,
    "TGATETestRandomText": RandomText,
    "TGATETestRandomPicture": RandomPicture,
    "TGATETestRandomVideoStart": RandomVideoStart,
}
