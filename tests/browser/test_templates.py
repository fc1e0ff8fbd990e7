"""The pack's templates in the editor's dialog: in the order of their names, with their cards, and they open."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Route
from strip_editor import LOOKS, NEWEST, SHIPPED, StripEditor

from tgate_dev.server import PACK_NAME

NAMES = sorted(path.stem for path in (Path(__file__).resolve().parents[2] / "workflows").glob("*.json"))
CARDS = "[data-testid^='template-workflow-']"

READABLE_SCALE = 8 / 14

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("editor", "palette"), [(SHIPPED, "dark"), (NEWEST, "light")], indirect=["editor"])
def test_they_stand_in_the_order_of_their_names(editor: StripEditor, palette: str) -> None:
    page = editor.page

    def shuffle(route: Route) -> None:
        """As a disk may list them."""
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), PACK_NAME: NAMES[::-1]})

    page.route("**/workflow_templates", shuffle)
    try:
        editor.open()
        editor.dress(False, palette)
        page.evaluate("() => window.app.extensionManager.command.execute('Comfy.BrowseTemplates')")
        page.get_by_role("dialog").get_by_text(PACK_NAME, exact=True).click()
        page.locator(CARDS).first.wait_for()
        shown = page.locator(CARDS).evaluate_all("(cards) => cards.map((card) => card.dataset.testid)")
        titles = [name.removeprefix("template-workflow-") for name in shown]
        assert titles == NAMES[: len(titles)]
        assert titles[0] == "1 Start here"
        assert len(titles) >= 10
        picture = page.locator(CARDS).first.locator("img").first
        picture.wait_for()
        page.wait_for_function("(one) => one.complete && one.naturalWidth > 0", arg=picture.element_handle())
        editor.keep_screenshot(f"templates-{palette}")
        page.locator(CARDS).first.click()
        page.wait_for_function("() => window.app.rootGraph.nodes.some((node) => node.type === 'TGATEReport')")
        editor.settle()
        # Farther out, the canvas draws no text.
        assert page.evaluate("() => window.app.canvas.ds.scale") > READABLE_SCALE
    finally:
        page.unroute("**/workflow_templates")
        editor.dress(*LOOKS[0])
