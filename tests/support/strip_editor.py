"""The editor with our nodes' strips in it, looked at and handled as a person would."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import ConsoleMessage, Page

from tgate_dev.editor import ANSWER_MS, Editor

POLL_MS = 100
SCREENSHOTS = Path(__file__).resolve().parents[2] / "test-output" / "screenshots"
# The editor that the host brings, and the newest one.
SHIPPED, NEWEST = "shipped", "newest"
# Whether nodes are made of HTML, and the palette; the first is the one that tests find.
LOOKS = ((False, "dark"), (False, "light"), (True, "dark"), (True, "light"))
BOTH_FRONTENDS = pytest.mark.parametrize("editor", [SHIPPED, NEWEST], indirect=True)
# What the host's own page complains of: files that a new user does not have, and models that it may not look up.
HOST_COMPLAINTS = (
    "the server responded with a status of 404",
    "Content Security Policy",
    "AxiosError: Request failed with status code 404",
    "ComfyApp graph accessed before initialization",
    "vendor-reka-ui",  # its node library, when the list of matches goes away
)
READ_STRIP = """(node) => {
  const root = node?.widgets.find((widget) => widget.name === 'tgate_schedule')?.element.shadowRoot;
  if (!root) return null;
  const text = (selector) => root.querySelector(selector)?.textContent ?? '';
  const row = [...(root.querySelector('.cells')?.children ?? [])];
  const bars = row.filter((part) => part.classList.contains('cell'));
  return {
    tag: text('.tag'), title: text('.title'), caption: text('.rest'), legend: text('.legend'),
    saving: text('.saving'), presets: text('.presets'),
    details: root.querySelector('.caption')?.title ?? '',
    is_cut: [...root.querySelectorAll('.caption, .presets, .saving, .legend')].some(
      (part) => part.scrollHeight > part.clientHeight + 1 || part.scrollWidth > part.clientWidth + 1),
    gate: row.findIndex((part) => part.classList.contains('gate')),
    bars: bars.map((bar) => ({
      looks: [...bar.classList].filter((name) => name !== 'cell'),
      label: bar.getAttribute('aria-label'),
      height: parseInt(bar.firstChild.style.height),
    })),
  };
}"""
# What a server sends at the end of a run.
SEND = """(told) => {
  const detail = { workflow_id: window.app.rootGraph.id, ...told };
  window.comfyAPI.api.api.dispatchEvent(new CustomEvent('tgate.run', { detail }));
}"""
LOOK_AT = """(node, left, top) => {
  const view = window.app.canvas.ds;
  view.scale = 1;
  view.offset = [left - node.pos[0], top - node.pos[1]];
}"""
PLACE_OF = """(node) => {
  const [x, y] = (POINT)(node), view = window.app.canvas.ds;
  const box = window.app.canvas.canvas.getBoundingClientRect();
  return [(x + view.offset[0]) * view.scale + box.left, (y + view.offset[1]) * view.scale + box.top];
}"""


@dataclass(frozen=True)
class Strip:
    """What the strip under a node says."""

    tag: str  # plan or last run
    saving: str  # what leads: the share of work, and seconds
    title: str
    presets: str  # what the other presets would save
    caption: str
    details: str  # what the caption shows under the pointer
    is_cut: bool  # whether some of its texts have more than there is room for
    legend: str
    gate: int  # bars before the gate; -1 without one
    bars: list[dict[str, Any]]  # `looks` (classes), `label` (description) and `height` (percent) of each


def run_detail(node_id: str, **changes: Any) -> dict[str, Any]:
    """A run as the server tells of it."""
    cell = {"phase": "planning", "self_reused": 0, "cross_reused": 0, "guided": True, "shallow": False, "ran": True}
    saved = {**cell, "phase": "fidelity", "self_reused": 0.5, "cross_reused": 1, "guided": False}
    predicted, unmet = {**saved, "predicted": True}, {**cell, "ran": False}
    steps = [(2, cell), (1, {**cell, "shallow": True}), (2, saved), (1, predicted), (1, unmet)]
    groups = [{**step, "count": count} for count, step in steps]
    told = {"family": "sd15", "groups": groups, "gate_step": 3, "summary": "a third saved", "notes": ["one reason"]}
    told |= {"saved": 0.333, "plain_seconds": None}
    return {"node_id": node_id, "sampler_id": None, "seconds": 2.5, "was_interrupted": False, **told, **changes}


class StripEditor(Editor):
    """The editor, with its nodes' strips; `complaints` are errors of page and console that are not the host's own."""

    def __init__(self, page: Page, address: str) -> None:
        super().__init__(page, address)
        self.complaints: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not any(known in message.text for known in HOST_COMPLAINTS):
            self.complaints.append(f"console: {message.text} ({message.location.get('url', '')})")

    def open_file(self, workflow: Path) -> None:
        """Open a workflow's file, as by the menu."""
        count = self.page.evaluate("() => window.app.extensionManager.workflow.openWorkflows.length")
        self.page.set_input_files("#comfy-file-input", str(workflow))
        self.page.wait_for_function(f"() => window.app.extensionManager.workflow.openWorkflows.length > {count}")
        self.settle()

    def read_strip(self, kind: str) -> Strip:
        """The strip under the first node of a type."""
        return Strip(**self.on_node(kind, READ_STRIP))

    def wait_for_strip(self, kind: str, title: str, seconds: float = ANSWER_MS / 1000) -> Strip:
        """The strip once its tag and heading hold `title`; else `AssertionError`."""
        return self.wait_until(kind, lambda strip: title in f"{strip.tag} {strip.title}", seconds)

    def wait_until(self, kind: str, holds: Callable[[Strip], bool], seconds: float = ANSWER_MS / 1000) -> Strip:
        """The strip once something holds of it; else `AssertionError`."""
        end, strip = time.monotonic() + seconds, None
        while time.monotonic() < end:
            # There may be no such node for a moment: the editor loads a graph anew when its language changes.
            read = self.on_node(kind, READ_STRIP)
            strip = Strip(**read) if read else None
            if strip and holds(strip):
                return strip
            self.page.wait_for_timeout(POLL_MS)
        raise AssertionError(f"the strip of {kind} did not come to it in {seconds:.0f} s: {strip}")

    def look_at(self, kind: str, left: float, top: float) -> None:
        """Move the first node of a type to a place on the page, in pixels."""
        self.on_node(kind, LOOK_AT, left, top)
        self.settle()

    def place_of(self, kind: str, point: str) -> tuple[float, float]:
        """Where on the page a point of a node lies; the function `point` gives it in the graph's pixels."""
        x, y = self.on_node(kind, PLACE_OF.replace("POINT", point))
        return x, y

    def dress(self, is_html: bool, palette: str) -> None:
        """Change how the editor looks, see `LOOKS`."""
        self.set("Comfy.VueNodes.Enabled", is_html)
        self.set("Comfy.ColorPalette", palette)

    def keep_screenshot(self, name: str) -> None:
        """A picture of the page for people, named after a test."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        file = re.sub(r"\W+", "-", name).strip("-")
        self.page.screenshot(path=SCREENSHOTS / f"{file}.png")
