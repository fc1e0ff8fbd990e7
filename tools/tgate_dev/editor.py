"""ComfyUI's editor in a real browser."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from playwright.sync_api import Page
from typing_extensions import Self

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
READY = "() => window.app?.extensionManager?.workflow?.activeWorkflow && window.app.canvas?.graph"
# The editor is a large page, and machines that run tests are busy.
START_MS, ANSWER_MS = 300_000, 60_000
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
    const [left, top, ...size] = places[name] ?? [(index % 3) * 420, Math.floor(index / 3) * 520];
    node.pos = [left, top];
    if (size.length) node.setSize(size);
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
Places = Mapping[str, tuple[float, ...]]  # left and top of each node, or these, width and height, in the graph's pixels


class Editor:
    """The editor in one page."""

    def __init__(self, page: Page, address: str) -> None:
        """`address` is the server's."""
        self.page, self._address = page, address
        page.set_default_timeout(ANSWER_MS)

    def open(self) -> Self:
        """Open the editor, or open it anew."""
        self.page.goto(self._address, timeout=START_MS)
        self.page.wait_for_function(READY, timeout=START_MS)
        return self

    def settle(self) -> None:
        """Wait until all is drawn."""
        self.page.evaluate("() => window.app.canvas.setDirty(true, true)")
        self.page.wait_for_timeout(300)

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
        "gate": ("TGATEApply", {"preset": "balanced"}),
        "positive": ("CLIPTextEncode", {"text": "red circle left of blue square"}),
        "negative": ("CLIPTextEncode", {"text": ""}),
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
