"""ComfyUI's editor in a real browser: opened, filled and read as a person would.

Runs in the environment's python, which has Playwright.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from .browser import launch_flags, ready_browser
from .server import Server

# Neither the first visit's tour nor what lies over the graph.
QUIET_SETTINGS: Mapping[str, Any] = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Locale": "en",
    "Comfy.ColorPalette": "dark",
    "Comfy.VueNodes.Enabled": False,
    "Comfy.Minimap.Visible": False,
    "Comfy.NodeBadge.NodeSourceBadgeMode": "None",
}
# What the host's own page complains of: files that a fresh user does not have, and models that it may not look up.
HOST_COMPLAINTS = (
    "the server responded with a status of 404",
    "Content Security Policy",
    "AxiosError: Request failed with status code 404",
    "ComfyApp graph accessed before initialization",
    "vendor-reka-ui",  # its node library, when the list of matches goes away
)
READY = "() => window.app?.extensionManager?.workflow?.activeWorkflow && window.app.canvas?.graph"
# Generous: the editor is a large page, and machines that run tests are often busy with others.
START_MS = 300_000
ANSWER_MS = 60_000
POLL_MS = 100
# The strip as it stands: its parts' texts, and of each bar its classes, description and height in percent.
READ_STRIP = """(node) => {
  const root = node.widgets.find((widget) => widget.name === 'tgate_schedule')?.element.shadowRoot;
  const text = (selector) => root.querySelector(selector)?.textContent ?? '';
  const row = [...(root.querySelector('.cells')?.children ?? [])];
  const bars = row.filter((part) => part.classList.contains('cell'));
  return {
    tag: text('.tag'), title: text('.title'), caption: text('.caption'), legend: text('.legend'),
    details: root.querySelector('.caption')?.title ?? '',
    gate: row.findIndex((part) => part.classList.contains('gate')),
    bars: bars.map((bar) => ({
      looks: [...bar.classList].filter((name) => name !== 'cell'),
      label: bar.getAttribute('aria-label'),
      height: parseInt(bar.firstChild.style.height),
    })),
  };
}"""


@dataclass(frozen=True)
class Strip:
    """What the strip under a node says.

    Attributes:
        tag: whether it is a plan, or the last run.
        title: the heading.
        caption: the line below.
        details: what the caption shows under the pointer.
        legend: all names of the legend.
        gate: how many bars stand before the gate; -1 without one.
        bars: of each bar `looks` (classes), `label` (its description) and `height` (percent).
    """

    tag: str
    title: str
    caption: str
    details: str
    legend: str
    gate: int
    bars: list[dict[str, Any]]


class Editor:
    """The editor in one page.

    Attributes:
        page: the page, for what a person does with mouse and keys.
        complaints: errors on the page and in its console that are not the host's own.
    """

    def __init__(self, page: Page, address: str) -> None:
        """
        Args:
            page: a new page.
            address: where the server listens.
        """
        self.page, self._address = page, address
        self.complaints: list[str] = []
        page.set_default_timeout(ANSWER_MS)
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))

    def open(self) -> Editor:
        """Open the editor, or open it anew."""
        self.page.goto(self._address, timeout=START_MS)
        self.page.wait_for_function(READY, timeout=START_MS)
        return self

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not any(known in message.text for known in HOST_COMPLAINTS):
            self.complaints.append(f"console: {message.text} ({message.location.get('url', '')})")

    def settle(self) -> None:
        """Wait until the editor has drawn what there is."""
        self.page.evaluate("() => window.app.canvas.setDirty(true, true)")
        self.page.wait_for_timeout(300)

    def open_file(self, workflow: Path) -> None:
        """Open a workflow's file, as by the menu."""
        count = self.page.evaluate("() => window.app.extensionManager.workflow.openWorkflows.length")
        self.page.set_input_files("#comfy-file-input", str(workflow))
        opened = f"() => window.app.extensionManager.workflow.openWorkflows.length > {count}"
        self.page.wait_for_function(opened, timeout=ANSWER_MS)
        self.settle()

    def load(self, graph: Mapping[str, Any]) -> None:
        """Show a graph in place of the one at hand, as saved by the editor."""
        self.page.evaluate("(graph) => window.app.loadGraphData(graph)", dict(graph))
        self.settle()

    def set(self, setting: str, value: Any) -> None:
        """Change one of the editor's settings."""
        self.page.evaluate("([name, value]) => window.app.extensionManager.setting.set(name, value)", [setting, value])
        self.settle()

    def on_node(self, kind: str, function: str, *arguments: Any) -> Any:
        """What a function says of the first node of a type, given it and the arguments."""
        find = "window.app.rootGraph.nodes.find((node) => node.type === kind)"
        return self.page.evaluate(f"([kind, given]) => ({function})({find}, ...given)", [kind, list(arguments)])

    def read_strip(self, kind: str) -> Strip:
        """The strip under the first node of a type."""
        return Strip(**self.on_node(kind, READ_STRIP))

    def wait_for_strip(self, kind: str, title: str, seconds: float = ANSWER_MS / 1000) -> Strip:
        """The strip under the first node of a type, once its tag and heading hold `title`; else `AssertionError`."""
        return self.wait_until(kind, lambda strip: title in f"{strip.tag} {strip.title}", seconds)

    def wait_until(self, kind: str, holds: Callable[[Strip], bool], seconds: float = ANSWER_MS / 1000) -> Strip:
        """The strip under the first node of a type, once something holds of it; else `AssertionError`."""
        end, strip = time.monotonic() + seconds, None
        while time.monotonic() < end:
            # There may be no such node for a moment: the editor loads a graph anew when its language changes.
            read = self.on_node(kind, f"(node) => node ? ({READ_STRIP})(node) : null")
            strip = None if read is None else Strip(**read)
            if strip is not None and holds(strip):
                return strip
            self.page.wait_for_timeout(POLL_MS)
        raise AssertionError(f"the strip of {kind} did not come to it in {seconds:.0f} s: {strip}")

    def look_at(self, kind: str, scale: float = 1.0, left: float = 200.0, top: float = 160.0) -> tuple[float, float]:
        """Move the first node of a type to a place on the page, in pixels; returns its width and height there."""
        function = """(node, scale, left, top) => {
          const view = window.app.canvas.ds;
          view.scale = scale;
          view.offset = [left / scale - node.pos[0], top / scale - node.pos[1]];
          return [node.size[0] * scale, node.size[1] * scale];
        }"""
        width, height = self.on_node(kind, function, scale, left, top)
        self.settle()
        return width, height

    def place_of(self, kind: str, function: str) -> tuple[float, float]:
        """Where on the page a point of a node lies; `function` gives it in the graph's pixels, from the node."""
        convert = f"""(node) => {{
          const [x, y] = ({function})(node), view = window.app.canvas.ds;
          const box = window.app.canvas.canvas.getBoundingClientRect();
          return [(x + view.offset[0]) * view.scale + box.left, (y + view.offset[1]) * view.scale + box.top];
        }}"""
        x, y = self.on_node(kind, convert)
        return x, y


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A browser without a window.

    Raises:
        UserError: there is none to be had.
    """
    program = ready_browser()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=launch_flags())
        try:
            yield browser
        finally:
            browser.close()


def write_settings(server: Server, **changes: Any) -> None:
    """Settings of the server's user, before the editor is opened; `QUIET_SETTINGS` and what is changed of them."""
    folder = server.base / "user" / "default"
    folder.mkdir(parents=True, exist_ok=True)
    settings = {**QUIET_SETTINGS, **changes}
    (folder / "comfy.settings.json").write_text(json.dumps(settings), encoding="utf-8")
