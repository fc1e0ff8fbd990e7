"""How the strip looks: readable in both kinds of nodes, both themes and both languages, and not in the way."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from strip_editor import BOTH_FRONTENDS, SEND, StripEditor, run_detail

from tgate_dev.editor import sampled

ADVANCED = "TGATEApplyAdvanced"
# Of parts that carry meaning, and of text, as WCAG 2 has it.
PART_CONTRAST = 3.0
TEXT_CONTRAST = 4.5
# As painted: colours are mixed from the theme's, so the browser is asked for what became of them.
COLOURS = """(node) => {
  const root = node.widgets.find((widget) => widget.name === 'tgate_schedule').element.shadowRoot;
  const pixel = document.createElement('canvas').getContext('2d');
  const painted = (colour) => {
    pixel.clearRect(0, 0, 1, 1);
    pixel.fillStyle = colour;
    pixel.fillRect(0, 0, 1, 1);
    return [...pixel.getImageData(0, 0, 1, 1).data];
  };
  const part = (selector, name) => painted(getComputedStyle(root.querySelector(selector))[name]);
  return {
    back: part('.panel', 'backgroundColor'),
    planning: part('.cell.planning:not(.reused) .bar', 'backgroundColor'),
    fidelity: part('.cell.fidelity .bar', 'backgroundColor'),
    refresh: part('.cell.refresh .bar', 'backgroundColor'),
    gate: part('.gate', 'backgroundColor'),
    title: part('.title', 'color'),
    caption: part('.caption', 'color'),
    legend: part('.key', 'color'),
  };
}"""

pytestmark = pytest.mark.slow


@pytest.fixture(params=[False, True], ids=["canvas", "html"])
def is_html(request: pytest.FixtureRequest, editor: StripEditor) -> Iterator[bool]:
    editor.set("Comfy.VueNodes.Enabled", request.param)
    yield bool(request.param)
    editor.set("Comfy.VueNodes.Enabled", False)


@pytest.fixture(params=["dark", "light"])
def theme(request: pytest.FixtureRequest, editor: StripEditor) -> Iterator[str]:
    editor.set("Comfy.ColorPalette", request.param)
    yield str(request.param)
    editor.set("Comfy.ColorPalette", "dark")


@pytest.fixture(params=["en", "zh"])
def language(request: pytest.FixtureRequest, editor: StripEditor) -> Iterator[str]:
    editor.set("Comfy.Locale", request.param)
    yield str(request.param)
    editor.set("Comfy.Locale", "en")


def luminance(colour: list[int]) -> float:
    channels = [value / 255 for value in colour[:3]]
    red, green, blue = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: list[int], two: list[int]) -> float:
    darker, lighter = sorted((luminance(one), luminance(two)))
    return (lighter + 0.05) / (darker + 0.05)


def show(editor: StripEditor) -> None:
    editor.build(*sampled(ADVANCED, {"protect_last": 2, "refresh": "growing gaps"}, steps=25))
    editor.wait_for_strip(ADVANCED, "25")


@BOTH_FRONTENDS
@pytest.mark.parametrize(("theme", "language"), [("dark", "en"), ("light", "zh")], indirect=True)
def test_strip_can_be_read(editor: StripEditor, is_html: bool, theme: str, language: str) -> None:
    show(editor)
    colours: dict[str, list[int]] = editor.on_node(ADVANCED, COLOURS)
    back = colours.pop("back")
    needed = {
        **dict.fromkeys(colours, TEXT_CONTRAST),
        **dict.fromkeys(("planning", "fidelity", "refresh", "gate"), PART_CONTRAST),
    }
    reached = {name: contrast(colour, back) for name, colour in colours.items()}
    assert {name: value for name, value in reached.items() if value < needed[name]} == {}
    strip = editor.read_strip(ADVANCED)
    is_chinese = re.search(r"[\u4e00-\u9fff]", strip.title) is not None
    assert is_chinese == (language == "zh")
    box = editor.page.locator(".tgate-schedule").bounding_box()
    assert box is not None
    assert box["width"] > 250
    assert box["height"] > 100


@BOTH_FRONTENDS
def test_a_new_node_is_as_tall_as_what_it_shows(editor: StripEditor, is_html: bool) -> None:
    """Rare inputs are folded away in nodes made of HTML, and so is the room for them."""
    show(editor)
    height: float = editor.on_node(ADVANCED, "(node) => node.size[1]")
    box = editor.page.locator(".tgate-schedule").bounding_box()
    top: tuple[float, float] = editor.place_of(ADVANCED, "(node) => node.pos")
    assert box is not None
    # What is below it: a margin, and in HTML the button that unfolds.
    assert 0 <= top[1] + height - (box["y"] + box["height"]) < 60


@BOTH_FRONTENDS
@pytest.mark.parametrize("theme", ["dark", "light"], indirect=True)
def test_what_was_saved_is_never_cut(editor: StripEditor, is_html: bool, theme: str) -> None:
    """Nor are the seconds of a long run beside those of the plain one."""
    ids = editor.build(*sampled("TGATEApply", steps=25))
    editor.wait_for_strip("TGATEApply", "Plan")
    reason = "another node gives the network a batch of its own (several tiles, some of the frames): computed in full"
    editor.page.evaluate(SEND, run_detail(ids["gate"], seconds=1234.56, plain_seconds=2345.6, notes=[reason]))
    strip = editor.read_strip("TGATEApply")
    assert strip.saving == "−33 % work · 1235 s (plain 2346 s)"
    assert not strip.is_cut


@BOTH_FRONTENDS
def test_wheel_over_the_strip_zooms(editor: StripEditor, is_html: bool) -> None:
    show(editor)
    box = editor.page.locator(".tgate-schedule").bounding_box()
    assert box is not None
    before = editor.page.evaluate("() => window.app.canvas.ds.scale")
    editor.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    editor.page.mouse.wheel(0, -200)
    editor.page.wait_for_function(f"() => window.app.canvas.ds.scale > {before}")


@BOTH_FRONTENDS
def test_strip_stays_with_its_node_when_nodes_change_kind(editor: StripEditor) -> None:
    show(editor)
    where = "(node) => node.widgets.find((w) => w.name === 'tgate_schedule').element.closest('.dom-widget') ? 1 : 2"
    assert editor.on_node(ADVANCED, where) == 1
    editor.set("Comfy.VueNodes.Enabled", True)
    assert editor.on_node(ADVANCED, where) == 2
    assert editor.page.locator(".lg-node .tgate-schedule").is_visible()
    editor.set("Comfy.VueNodes.Enabled", False)
    assert editor.on_node(ADVANCED, where) == 1
