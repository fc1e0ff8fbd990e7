"""Graphs made in the editor itself, node by node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .browser_editor import Editor

Nodes = dict[str, tuple[str, dict[str, Any]]]
# Origin and its output, target and its input.
Links = list[tuple[str, str, str, str]]

# Left and top of each node, in the graph's pixels.
Places = Mapping[str, tuple[float, float]]

_BUILD = """([nodes, links, places]) => {
  const graph = window.app.rootGraph, made = {};
  window.app.canvas.setGraph(graph);
  // The host remembers widgets by their node's id, that of a node that is gone too.
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


def build(editor: Editor, nodes: Nodes, links: Links, places: Places | None = None) -> dict[str, str]:
    """Replace the editor's graph by these nodes and links; returns the nodes' ids by name.

    Args:
        editor: where.
        nodes: type and widget values by the node's name, which is this function's own.
        links: which output goes into which input.
        places: where nodes stand; in rows of three where it does not say.
    """
    where = {name: list(place) for name, place in (places or {}).items()}
    ids: dict[str, str] = editor.page.evaluate(_BUILD, [nodes, [list(link) for link in links], where])
    editor.settle()
    return ids


def sampled(node: str, values: dict[str, Any] | None = None, **sampler: Any) -> tuple[Nodes, Links]:
    """A node of ours before a KSampler."""
    nodes: Nodes = {"gate": (node, values or {}), "sampler": ("KSampler", sampler)}
    return nodes, [("gate", "MODEL", "sampler", "model")]


def text_to_picture(checkpoint: str, steps: int, side: int, seed: int) -> tuple[Nodes, Links]:
    """All it takes for a small picture; the server runs a graph that it knows no second time, so seeds differ."""
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
