"""The card that the editor's list of templates shows of a workflow: name, saving, size and steps."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from PIL import Image, ImageDraw, ImageFont

from ..prompts import ObjectInfo, is_sampler, to_prompt
from .note import ALONE, JOINT

# The font that Pillow brings has neither minus nor times.
Ask = Callable[[str], Any]  # a server, by path

SIDE, MARGIN, QUALITY = 400, 28, 75
BARS_TOP, BARS_HEIGHT = 250, 110
# Below what newer editors lay over a card's left corner.
HEADING_TOP, HEADING_SIZE, LINE = 64, 26, 32
GROUND, TEXT, FAINT = "#1e2024", "#e8eaed", "#a0a5ad"
COLORS = {"planning": "#56b4e9", "fidelity": "#e69f00", "refresh": "#cc79a7", "protected": "#a0a5ad"}
PRESET_FAMILIES = {
    "v1-5": "sd15",
    "v2-1": "sd21",
    "playground": "playground-2.5",
    "xl": "sdxl",
    "svd": "svd",
    "pixart": "pixart",
}
OURS = ("TGATEApply", "TGATEApplyAdvanced")
# What a step computes beside a full one, for the height of its bar.
HALF, LESS, NONE = 0.5, 0.85, 0.05


def draw_card(graph: Mapping[str, Any], object_info: ObjectInfo, ask: Ask, file: Path) -> None:
    """Draw the card of a saved workflow into a JPEG file; the pack's own route says what it saves."""
    note = next(node for node in graph["nodes"] if node["type"] == "MarkdownNote")["widgets_values"][0]
    heading = note.splitlines()[0].removeprefix("## ")
    is_alone = JOINT in note or ALONE in note
    plan, size = _plan(graph, object_info, ask, "guidance alone" if is_alone else "")
    image = Image.new("RGB", (SIDE, SIDE), GROUND)
    draw = ImageDraw.Draw(image)
    for index, line in enumerate(_wrapped(draw, heading, HEADING_SIZE)):
        draw.text((MARGIN, HEADING_TOP + index * LINE), line, TEXT, _font(HEADING_SIZE))
    if plan is not None:
        draw.text((MARGIN, 166), f"about {100 * plan['saved']:.0f} % less work", COLORS["fidelity"], _font(36))
        _draw_bars(draw, plan["groups"])
    draw.text((MARGIN, SIDE - MARGIN - 16), size, FAINT, _font(20), anchor="lm")
    image.save(file, quality=QUALITY, optimize=True)


def _plan(graph: Mapping[str, Any], object_info: ObjectInfo, ask: Ask, scope: str) -> tuple[Any, str]:
    """The plan of our node in a workflow, None where a run alone can tell; and size and steps in words.

    `scope` stands for the family of a model that is not gated whole.
    """
    prompt = to_prompt(graph, object_info)
    nodes = list(prompt.values())
    sampler = next(node["inputs"] for node in nodes if is_sampler(node) or "sigmas" in node["inputs"])
    steps = next((node["inputs"]["steps"] for node in nodes if "steps" in node["inputs"]), 0)
    size = _size(nodes, steps)
    ours = next((node for node in nodes if node["class_type"] in OURS), None)
    if ours is None or any(node["class_type"] in ("TGATEDeepCache", "TGATEForecast") for node in nodes):
        return None, size
    settings = {name: value for name, value in ours["inputs"].items() if not isinstance(value, list)}
    texts = {name: str(value).lower() if isinstance(value, bool) else value for name, value in settings.items()}
    files = " ".join(str(value) for node in nodes for name, value in node["inputs"].items() if name.endswith("_name"))
    family = scope or next((name for part, name in PRESET_FAMILIES.items() if part in files.lower()), "generic")
    solver = next((node["inputs"]["sampler_name"] for node in nodes if "sampler_name" in node["inputs"]), "euler")
    guided = int(sampler.get("cfg", 0) != 1)
    scheduler = next((node["inputs"]["scheduler"] for node in nodes if "scheduler" in node["inputs"]), "")
    has_own_levels = any(node["class_type"].startswith("ModelSampling") for node in nodes)
    run = {"steps": steps, "guided": guided, "denoise": sampler.get("denoise", 1.0), "sampler": solver}
    run |= {} if has_own_levels else {"scheduler": scheduler}
    plan = ask(f"/tgate/schedule?{urlencode({'node': ours['class_type'], **texts, **run, 'family': family})}")
    return (None if plan["is_measured"] else plan), size


def _size(nodes: list[dict[str, Any]], steps: int) -> str:
    """Size of what is made, as far as an empty latent says it, and steps."""
    latent: dict[str, Any] = next(
        (node["inputs"] for node in nodes if {"width", "height", "batch_size"} <= node["inputs"].keys()), {}
    )
    sound: dict[str, Any] = next((node["inputs"] for node in nodes if "seconds" in node["inputs"]), {})
    parts = [
        f"{latent['width']} x {latent['height']}" if latent else "",
        f"{latent['length']} frames" if "length" in latent else "",
        f"{sound['seconds']:g} s" if sound else "",
        f"{steps} steps",
    ]
    return " · ".join(part for part in parts if part)


def _draw_bars(draw: ImageDraw.ImageDraw, groups: list[dict[str, Any]]) -> None:
    cells = [group for group in groups for _ in range(group["count"])]
    width = (SIDE - 2 * MARGIN) / len(cells)
    is_guided = any(cell["guided"] for cell in cells)
    for index, cell in enumerate(cells):
        height = BARS_HEIGHT * (1 if cell["guided"] or not is_guided else HALF)
        height *= NONE if cell["predicted"] else LESS if cell["self_reused"] or cell["cross_reused"] else 1
        left, bottom = MARGIN + index * width, BARS_TOP + BARS_HEIGHT - MARGIN
        draw.rectangle((left, bottom - height, left + width - 2, bottom), COLORS[cell["phase"]])


def _wrapped(draw: ImageDraw.ImageDraw, text: str, size: float) -> list[str]:
    lines: list[str] = []
    for word in re.split(r"\s+", text):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and draw.textlength(longer, font=_font(size)) <= SIDE - 2 * MARGIN:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
