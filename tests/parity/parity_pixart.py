"""The PixArt models of the parity check, in terms that both sides understand. Needs nothing installed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PixArtShape:
    """A small PixArt transformer. Alpha is told the picture's size and aspect ratio, Sigma is not.

    The channels divide by three (height, width, aspect ratio) and by four (sine and cosine of two coordinates).
    """

    name: str
    sizes: bool
    channels: int = 48
    heads: int = 4
    depth: int = 3


PIXARTS = {
    "pixart_alpha": PixArtShape("pixart_alpha", sizes=True),
    "pixart_sigma": PixArtShape("pixart_sigma", sizes=False),
}
