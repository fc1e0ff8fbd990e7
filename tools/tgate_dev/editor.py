"""ComfyUI's editor in a real browser: opened, filled and read as a person would."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import ConsoleMessage, Page

from .server import Server

# No tour on the first visit, and nothing that lies over the graph.
QUIET_SETTINGS: Mapping[str, Any] = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Locale": "en",
    "Comfy.ColorPalette": "dark",
    "Comfy.VueNodes.Enabled": False,
    "Comfy.Minimap.Visible": False,
    "Comfy.NodeBadge.NodeSourceBadgeMode": "None",
}
# What the host's own page complains of: files that a new user does not have, and models that it may not look up.
HOST_COMPLAINTS = (
    "the server responded with a status of 404",
    "Content Security Policy",
    "AxiosError: Request failed with status code 404",
    "ComfyApp graph accessed before initialization",
    "vendor-reka-ui",  # its node library, when the list of matches goes away
)
READY = "() => window.app?.extensionManager?.workflow?.activeWorkflow && window.app.canvas?.graph"
# The editor is a large page, and machines that run tests are busy.
START_MS, ANSWER_MS, POLL_MS = 300_000, 60_000, 100
READ_STRIP = """(node) => {
  const root = node?.widgets.find((widget) => widget.name === 'tgate_schedule')?.element.shadowRoot;
  if (!root) return null;
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
BUILD = """([nodes, links, places]) => {
  const graph = window.app.rootGraph, made = {};
  window.app.canvas.setGraph(graph);
  // The host remembers widgets by their node's id, also when the node is gone: no id is used again.
  const last = graph.state.lastNodeId;
  graph.clear();
  graph.state.lastNodeId = last;
  Object.entries(nodes).forEach(([name, [type, values]], index) => {
    const node = window.LiteGraph.createNode(type);
    if (!node) throw new Error(`no node of the type ${type}`);
    graph.add(node);
    node.pos = places[name] ?? [(index % 3) * 420, Math.floor(index / 3) * 520];
    for (const [key, value] of Object.entries(values)) {
      const widget = node.widgets.find((one) => one.name === key);
      if (!widget) throw new Error(`${type} has no ${key}`);
      widget.value = value;
    }
    made[name] = node;
  });
  const slot = (slots, name) => slots.findIndex((one) => one.name === name);
  for (const [from, output, to, input] of links) {
    made[from].connect(slot(made[from].outputs, output), made[to], slot(made[to].inputs, input));
  }
  window.app.canvas.ds.scale = 1;
  window.app.canvas.ds.offset = [160, 140];
  // As after a person's click: for undo, and for what loads the graph anew.
  window.app.extensionManager.workflow.activeWorkflow.changeTracker.captureCanvasState();
  return Object.fromEntries(Object.entries(made).map(([name, node]) => [name, String(node.id)]));
}"""

Nodes = dict[str, tuple[str, dict[str, Any]]]  # type and widget values of each node
Links = list[tuple[str, str, str, str]]  # origin and its output, target and its input
Places = Mapping[str, tuple[float, float]]  # left and top of each node, in the graph's pixels


@dataclass(frozen=True)
class Strip:
    """What the strip under a node says."""

    tag: str  # plan or last run
    title: str
    caption: str
    details: str  # what the caption shows under the pointer
    legend: str
    gate: int  # bars before the gate; -1 without one
    bars: list[dict[str, Any]]  # `looks` (classes), `label` (description) and `height` (percent) of each


class Editor:
    """The editor in one page; `complaints` are errors of the page and its console that are not the host's own."""

    def __init__(self, page: Page, address: str) -> None:
        """`address` is the server's."""
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
        """Wait until all is drawn."""
        self.page.evaluate("() => window.app.canvas.setDirty(true, true)")
        self.page.wait_for_timeout(300)

    def open_file(self, workflow: Path) -> None:
        """Open a workflow's file, as by the menu."""
        count = self.page.evaluate("() => window.app.extensionManager.workflow.openWorkflows.length")
        self.page.set_input_files("#comfy-file-input", str(workflow))
        self.page.wait_for_function(f"() => window.app.extensionManager.workflow.openWorkflows.length > {count}")
        self.settle()

    def build(self, nodes: Nodes, links: Links, places: Places | None = None) -> dict[str, str]:
        """Replace the graph; returns the nodes' ids by name. They stand in rows of three where `places` has none."""
        ids: dict[str, str] = self.page.evaluate(BUILD, [nodes, links, places or {}])
        self.settle()
        return ids

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


def write_settings(server: Server) -> None:
    """Quiet settings for the server's user, before the editor is opened."""
    folder = server.base / "user" / "default"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comfy.settings.json").write_text(json.dumps(dict(QUIET_SETTINGS)), encoding="utf-8")


def sampled(node: str, values: dict[str, Any] | None = None, **sampler: Any) -> tuple[Nodes, Links]:
    """A node of ours before a KSampler."""
    nodes: Nodes = {"gate": (node, values or {}), "sampler": ("KSampler", sampler)}
    return nodes, [("gate", "MODEL", "sampler", "model")]


def text_to_picture(checkpoint: str, steps: int, side: int, seed: int) -> tuple[Nodes, Links]:
    """All it takes for a small picture; a graph that the server has run is not run again, so seeds differ."""
    nodes: Nodes = {
        "loader": ("CheckpointLoaderSimple", {"ckpt_name": checkpoint}),
        "gate": ("TGATEApply", {}),
        "positive": ("CLIPTextEncode", {"text": "a lighthouse"}),
        "negative": ("CLIPTextEncode", {"text": "text"}),
        "latent": ("EmptyLatentImage", {"width": side, "height": side}),
        "sampler": ("KSampler", {"steps": steps, "sampler_name": "euler", "seed": seed}),
        "decoder": ("VAEDecode", {}),
        "preview": ("PreviewImage", {}),
    }
    links: Links = [
        ("loader", "MODEL", "gate", "model"),
        ("gate", "MODEL", "sampler", "model"),
        ("loader", "CLIP", "positive", "clip"),
        ("loader", "CLIP", "negative", "clip"),
        ("positive", "CONDITIONING", "sampler", "positive"),
        ("negative", "CONDITIONING", "sampler", "negative"),
        ("latent", "LATENT", "sampler", "latent_image"),
        ("sampler", "LATENT", "decoder", "samples"),
        ("loader", "VAE", "decoder", "vae"),
        ("decoder", "IMAGE", "preview", "images"),
    ]
    return nodes, links
