"""The image UNets of the parity check, in terms that both sides understand. Needs nothing installed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class UNetShape:
    """A small UNet: one residual block per level, transformers of the given depth (0: none) per level."""

    name: str
    channels: tuple[int, ...]
    transformer_depth: tuple[int, ...]
    heads: tuple[int, ...]
    linear_projection: bool
    pooled: bool


UNETS = {
    "sd15": UNetShape("sd15", (32, 64, 128), (1, 1, 0), (8, 8, 8), linear_projection=False, pooled=False),
    # SDXL fixes 64 channels per head; its first level has no transformer.
    "sdxl": UNetShape("sdxl", (32, 64, 128), (0, 1, 2), (1, 1, 2), linear_projection=True, pooled=True),
}
