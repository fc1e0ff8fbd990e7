"""`dev.py screenshots`: pictures of our nodes in the real editor, for the README.

Runs in the environment's python, which has Playwright.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser

from .browser import ready_chinese_font
from .browser_editor import Editor, running_browser, write_settings
from .browser_graphs import Links, Nodes, Places, build, sampled, text_to_picture
from .demo import ready_standin
from .environment import PACK, Environment
from .errors import UserError
from .progress import Stage, say
from .server import Server, ServerError

# Names that a reader knows, in place of the small model that there is.
CHECKPOINT = "sd_xl_base_1.0.safetensors"
APPLY, ADVANCED = "TGATEApply", "TGATEApplyAdvanced"
PLACES: Places = {
    "loader": (0, 0),
    "positive": (0, 180),
    "negative": (0, 440),
    "gate": (460, 0),
    "latent": (460, 290),
    "sampler": (840, 0),
    # Out of the picture.
    "decoder": (1400, 0),
    "preview": (1400, 200),
}
MARGIN = 24
TITLE = 30
DENSITY = 2
RUN_SECONDS = 240.0
# How far the nodes in the picture reach.
BOUNDS = """(left) => {
  const boxes = window.app.rootGraph.nodes.filter((node) => node.pos[0] < left);
  const right = Math.max(...boxes.map((node) => node.pos[0] + node.size[0]));
  const bottom = Math.max(...boxes.map((node) => node.pos[1] + node.size[1]));
  return [right, bottom];
}"""
SHOW_NAME = """([name]) => {
  const widget = window.app.rootGraph.nodes.find((node) => node.type === 'CheckpointLoaderSimple').widgets[0];
  widget.options.values = [name];
  widget.value = name;
}"""


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        name: of its file.
        kind: type of the node of ours in it.
        theme: the editor's palette.
        language: the editor's.
        is_html: whether nodes are made of HTML, or drawn on the canvas.
        is_run: whether the graph is run, so that the strip tells what happened.
    """

    name: str
    kind: str = APPLY
    theme: str = "dark"
    language: str = "en"
    is_html: bool = False
    is_run: bool = False


PICTURES = (
    Picture("strip-plan"),
    Picture("strip-run", is_html=True, is_run=True),
    Picture("strip-advanced", kind=ADVANCED, theme="light"),
    Picture("strip-chinese", kind=ADVANCED, is_html=True, language="zh"),
)


def take(picture: Picture, editor: Editor, checkpoint: str, out: Path) -> Path:
    """Take one picture; returns its file."""
    for setting, value in (
        ("Comfy.VueNodes.Enabled", picture.is_html),
        ("Comfy.ColorPalette", picture.theme),
        ("Comfy.Locale", picture.language),
    ):
        editor.set(setting, value)
    # The editor loads its graph anew when its language changes.
    editor.page.wait_for_timeout(1500)
    nodes, links = _run_graph(checkpoint) if picture.is_run else _plan_graph(picture.kind, checkpoint)
    build(editor, nodes, links, PLACES)
    if picture.is_run:
        editor.page.get_by_test_id("queue-button").click()
        editor.wait_for_strip(picture.kind, "Last run", RUN_SECONDS)
        # Until then it is told how far the run is, above the graph.
        editor.page.get_by_text("0 active").wait_for(timeout=1000 * RUN_SECONDS)
    else:
        editor.page.evaluate(SHOW_NAME, [CHECKPOINT])
    editor.page.wait_for_timeout(1500)
    return _photographed(editor, picture, out)


def _plan_graph(kind: str, checkpoint: str) -> tuple[Nodes, Links]:
    settings = {"protect_last": 2, "guidance": "cached_delta"} if kind == ADVANCED else {}
    nodes, links = sampled(kind, settings, steps=25, cfg=7)
    nodes["loader"] = ("CheckpointLoaderSimple", {"ckpt_name": checkpoint})
    return nodes, [("loader", "MODEL", "gate", "model"), *links]


def _run_graph(checkpoint: str) -> tuple[Nodes, Links]:
    return text_to_picture(checkpoint, steps=25, side=128, seed=0)


def _photographed(editor: Editor, picture: Picture, out: Path) -> Path:
    # Clear of what the editor has along its edges.
    left, top = 140.0, 200.0
    editor.page.evaluate(f"() => {{ window.app.canvas.ds.scale = 1; window.app.canvas.ds.offset = [{left}, {top}]; }}")
    editor.page.mouse.move(5, 5)
    editor.settle()
    right, bottom = editor.page.evaluate(BOUNDS, PLACES["decoder"][0])
    origin = editor.page.evaluate("() => window.app.canvas.canvas.getBoundingClientRect().toJSON()")
    clip = {
        "x": origin["left"] + left - MARGIN,
        "y": origin["top"] + top - TITLE - MARGIN,
        "width": right + 2 * MARGIN,
        "height": bottom + TITLE + 2 * MARGIN,
    }
    file = out / f"{picture.name}.png"
    editor.page.screenshot(path=file, clip=clip)  # type: ignore[arg-type]  # a plain dictionary is a FloatRect
    return file


@contextmanager
def _editor(server: Server, browser: Browser) -> Iterator[Editor]:
    page = browser.new_page(viewport={"width": 1400, "height": 1000}, device_scale_factor=DENSITY)
    try:
        yield Editor(page, server.address).open()
    finally:
        page.close()


def run(environment: Environment, out: Path) -> None:
    """Take all pictures.

    Raises:
        UserError: there is no browser, or no Chinese font.
        ServerError: the server does not start.
    """
    ready_chinese_font()
    checkpoint = ready_standin(environment, verbose=False)
    with tempfile.TemporaryDirectory(prefix="tgate-screenshots-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        server = Server(
            python=environment.python,
            comfyui=environment.comfyui,
            base=folder / "comfyui",
            log=folder / "server.log",
            custom_nodes={"comfyui-tgate-nodes": PACK},
            model_folders={"checkpoints": [checkpoint.parent]},
            arguments=("--cpu",),
            variables=environment.variables(),
        )
        write_settings(server)
        with Stage("Starting ComfyUI") as stage:
            server.on_wait = lambda seconds: stage.update("")
            server.start()
        try:
            with running_browser() as browser, _editor(server, browser) as editor:
                for picture in PICTURES:
                    say(str(take(picture, editor, checkpoint.name, out)))
        finally:
            server.stop()


def main(arguments: Sequence[str]) -> int:
    """Command line of this process, which `cli.py` fills in; 2 for what the user can put right."""
    parser = argparse.ArgumentParser(prog="screenshots")
    for name in ("comfyui", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--comfyui-version", required=True)
    options = parser.parse_args(arguments)
    environment = Environment(Path(sys.executable), options.comfyui, options.comfyui_version)
    try:
        run(environment, options.out)
    except (UserError, ServerError) as error:
        say(str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
