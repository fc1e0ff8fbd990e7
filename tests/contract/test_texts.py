"""What the nodes say in each language: complete, with nothing left over, and in English never other than the nodes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tgate_dev.prompts import inputs_of
from tgate_dev.texts import FILE, texts_of, write_texts

REPO = Path(__file__).resolve().parents[2]
LOCALES = REPO / "locales"
LANGUAGES = ("en", "zh")
# The editor reads these in its own way: as placeholders, links to other texts, and plural forms.
SPECIAL = set("{}@|")
CHINESE = re.compile("[\u4e00-\u9fff]")
# Words that people who write Chinese leave as they are.
UNTRANSLATED = {"Latent", "TGATE DeepCache"}


def locale(language: str) -> dict[str, Any]:
    return json.loads((LOCALES / language / FILE).read_text(encoding="utf-8"))


def leaves(texts: dict[str, Any], *above: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each text with the keys that lead to it; a node without outputs has none of those."""
    for key, value in texts.items():
        if isinstance(value, dict):
            yield from leaves(value, *above, key)
        else:
            yield (*above, key), value


def test_english_is_what_the_nodes_say(pack: Any) -> None:
    assert locale("en") == texts_of(pack.nodes), "run: python3 tools/dev.py texts"


def test_the_command_writes_the_file_as_it_is(pack: Any, tmp_path: Path) -> None:
    write_texts(texts_of(pack.nodes), tmp_path / FILE)
    assert (tmp_path / FILE).read_bytes() == (LOCALES / "en" / FILE).read_bytes()


def test_languages_are_those_that_are_tested() -> None:
    assert sorted(path.name for path in LOCALES.iterdir()) == sorted(LANGUAGES)


def test_every_node_input_and_output_is_translated_and_nothing_is_left_over(pack: Any) -> None:
    assert set(dict(leaves(locale("zh")))) == set(dict(leaves(texts_of(pack.nodes))))


def test_chinese_is_chinese() -> None:
    for keys, text in leaves(locale("zh")):
        assert CHINESE.search(text) or text in UNTRANSLATED, f"{'.'.join(keys)} is not translated: {text}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_have_no_characters_that_the_editor_takes_for_its_own(language: str) -> None:
    for keys, text in leaves(locale(language)):
        assert text.strip() == text
        assert text, ".".join(keys)
        assert not SPECIAL & set(text), f"{'.'.join(keys)}: {text}"


def test_choices_are_explained_by_the_names_they_have_in_the_editor(pack: Any) -> None:
    """The editor shows choices as they are, in any language, so a translated tooltip has to name each."""
    chinese, named = locale("zh"), 0
    for name, texts in texts_of(pack.nodes).items():
        for key, specification in inputs_of(pack.nodes[name].GET_NODE_INFO_V1()).items():
            for choice in specification[1].get("options") or ():
                if choice in texts["inputs"][key]["tooltip"]:
                    named += 1
                    assert choice in chinese[name]["inputs"][key]["tooltip"]
    assert named > 10


def test_what_may_be_connected_as_the_tooltips_say_can_be(pack: Any) -> None:
    plot, gate = (pack.nodes[name].GET_NODE_INFO_V1() for name in ("TGATEConvergencePlot", "TGATEApplyAdvanced"))
    outputs = dict(zip(plot["output_name"], plot["output"], strict=True))
    assert outputs["gate"] == gate["input"]["required"]["gate"][0]
    assert outputs["probe"] == gate["input"]["optional"]["probe"][0]
