"""`dev.py screenshots`: pictures of our nodes in the real editor, for the README.

Runs in the environment's python, which has Playwright, with TGATE_COMFYUI set.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import ViewportSize

from .browser import ready_chinese_font, running_browser
from .editor import Editor, Links, Nodes, Places, sampled, text_to_picture, write_settings
from .environment import PACK, current
from .errors import exit_code
from .progress import Stage, say
from .scenes.checkpoint import ready_checkpoint
from .server import Server

# A name that readers know, of a model of the same family, in place of the small one that there is.
CHECKPOINT = "v1-5-pruned-emaonly.safetensors"
APPLY, ADVANCED = "TGATEApply", "TGATEApplyAdvanced"
BYPASS = 4  # the editor's number of that mode
PLACES: Places = {
    "loader": (0, 0, 300, 100),
    "gate": (350, 0),
    "latent": (0, 160, 300, 110),
    "positive": (350, 300, 340, 90),
    "negative": (350, 440, 340, 90),
    "sampler": (720, 0, 300, 262),
    "decoder": (720, 330, 300, 50),
    "preview": (1080, 0, 310, 380),
}
# What the report is about fills the picture; the rest lies to the left of it.
WHY_PLACES: Places = {
    **dict.fromkeys(("loader", "positive", "negative", "latent"), (-800, 0)),
    "gate": (0, 0),
    "sampler": (370, 0, 300, 262),
    "report": (730, 0, 560, 440),
}
VIEW: ViewportSize = {"width": 1800, "height": 1000}
DENSITY = 2
# Clear of what the editor has along its edges.
LEFT, TOP = 140.0, 200.0
MARGIN, TITLE = 24, 30
RUN_SECONDS = 240.0
# So that the strip has a step of each kind.
ADVANCED_SETTINGS = {"gate": 7, "gate_unit": "step", "protect_last": 2}
SETTLE_MS = 1500
# Moves the graph to LEFT, TOP; returns the part of the page that it takes.
FRAME = """([left, top, margin, title]) => {
  window.app.canvas.ds.scale = 1;
  window.app.canvas.ds.offset = [left, top];
  const box = window.app.canvas.canvas.getBoundingClientRect();
  const nodes = window.app.rootGraph.nodes;
  const reach = (axis) => Math.max(...nodes.map((node) => node.pos[axis] + node.size[axis])) + 2 * margin;
  const [x, y] = [box.left + left - margin, box.top + top - title - margin];
  return { x, y, width: reach(0), height: reach(1) + title };
}"""
SHOW_NAME = """(node, name) => {
  node.widgets[0].options.values = [name];
  node.widgets[0].value = name;
}"""
HAS_NAME = "([kind, title]) => window.LiteGraph.createNode(kind)?.title === title"


@dataclass(frozen=True)
class Picture:
    """One picture."""

    name: str  # of its file
    kind: str = APPLY  # our node in it
    theme: str = "dark"
    language: str = "en"
    is_html: bool = False  # nodes made of HTML, not drawn on the canvas
    is_run: bool = False  # the strip shows a run, beside the one without our node
    why_not: bool = False  # the run is one that saves little, and TGATE Report says why


PICTURES = (
    Picture("strip-plan"),
    Picture("strip-run", is_html=True, is_run=True),
    Picture("strip-why", is_html=True, why_not=True),
    Picture("strip-advanced", kind=ADVANCED, theme="light"),
    Picture("strip-chinese", kind=ADVANCED, is_html=True, language="zh"),
)


def display_name(language: str) -> str:
    """What TGATE Apply is called."""
    texts = json.loads((PACK / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
    return str(texts[APPLY]["display_name"])


def queue(editor: Editor) -> None:
    """Run the graph, to its end."""
    editor.page.get_by_test_id("queue-button").click()
    editor.page.get_by_text("1 active").wait_for()
    # Until then the editor shows above the graph how far the run is.
    editor.page.get_by_text("0 active").wait_for(timeout=1000 * RUN_SECONDS)


def bypass(editor: Editor, is_off: bool) -> None:
    """Bypass our node, or no longer."""
    editor.on_node(APPLY, "(node, mode) => { node.mode = mode; node.onConnectionsChange(); }", BYPASS if is_off else 0)
    editor.page.wait_for_timeout(SETTLE_MS)


def reported(checkpoint: str) -> tuple[Nodes, Links]:
    """A run without guidance, as of a distilled model, and its report."""
    nodes, links = text_to_picture(checkpoint, steps=12, side=256, seed=0)
    nodes["sampler"][1]["cfg"] = 1.0
    nodes["report"] = ("TGATEReport", {})
    kept = [link for link in links if "decoder" not in (link[0], link[2])]
    for name in ("decoder", "preview"):
        del nodes[name]
    return nodes, [*kept, ("gate", "MODEL", "report", "model"), ("sampler", "LATENT", "report", "latent")]


def take(picture: Picture, editor: Editor, checkpoint: str, file: Path) -> None:
    """Take one picture."""
    editor.set("Comfy.VueNodes.Enabled", picture.is_html)
    editor.set("Comfy.ColorPalette", picture.theme)
    editor.set("Comfy.Locale", picture.language)
    # So that all nodes have their names in it.
    editor.open()
    editor.page.wait_for_function(HAS_NAME, arg=[APPLY, display_name(picture.language)])
    if picture.is_run:
        editor.build(*text_to_picture(checkpoint, steps=25, side=256, seed=0), PLACES)
        bypass(editor, True)
        queue(editor)
        bypass(editor, False)
        queue(editor)
        editor.page.locator(".tgate-schedule .tag", has_text="Last run").wait_for()
    elif picture.why_not:
        editor.build(*reported(checkpoint), WHY_PLACES)
        queue(editor)
        editor.page.locator(".tgate-schedule .tag", has_text="Last run").wait_for()
    else:
        settings = ADVANCED_SETTINGS if picture.kind == ADVANCED else {}
        nodes, links = sampled(picture.kind, settings, steps=25, cfg=7)
        nodes["loader"] = ("CheckpointLoaderSimple", {"ckpt_name": checkpoint})
        editor.build(nodes, [("loader", "MODEL", "gate", "model"), *links], PLACES)
        editor.on_node("CheckpointLoaderSimple", SHOW_NAME, CHECKPOINT)
    editor.page.wait_for_timeout(SETTLE_MS)
    clip = editor.page.evaluate(FRAME, [LEFT, TOP, MARGIN, TITLE])
    editor.page.mouse.move(5, 5)
    editor.settle()
    editor.page.screenshot(path=file, clip=clip)


def main() -> int:
    """Take all pictures, into the folder that is given.

    Raises:
        UserError: there is no browser, or no Chinese font.
        ServerError: the server does not start.
    """
    ready_chinese_font()
    environment = current()
    checkpoint = ready_checkpoint(environment)
    with tempfile.TemporaryDirectory(prefix="tgate-screenshots-", ignore_cleanup_errors=True) as name:
        models = {"checkpoints": [checkpoint.parent]}
        server = Server(environment.python, environment.comfyui, Path(name), model_folders=models)
        write_settings(server)
        with contextlib.ExitStack() as stack:
            with Stage("Starting ComfyUI"):
                stack.enter_context(server)
            browser = stack.enter_context(running_browser())
            editor = Editor(browser.new_page(viewport=VIEW, device_scale_factor=DENSITY), server.address).open()
            for picture in PICTURES:
                file = Path(sys.argv[1]) / f"{picture.name}.png"
                take(picture, editor, checkpoint.name, file)
                say(str(file))
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
