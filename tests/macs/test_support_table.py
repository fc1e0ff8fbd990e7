"""The table of supported models in docs/models.md is what its command makes, and every row of it is tested."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from families import FAMILIES
from joint_families import JOINT_FAMILIES

from tgate_core.host.architectures import ARCHITECTURES, UNET, architecture_of
from tgate_dev.bench.support import DOCUMENTS, HEADING, USUAL_RUNS, gated_attentions, line
from tgate_dev.readme import section

REPO = Path(__file__).resolve().parents[2]
sys.path.extend([str(REPO / "tests" / "parity"), str(REPO / "tests" / "contract")])
CHEAP = ("LCM PixArt-Alpha", "LTX-Video 2B", "Z-Image Turbo")


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """Rows of the table in English."""
    heading, mark, *rows = section((REPO / DOCUMENTS[0]).read_text(encoding="utf-8"), "support").splitlines()
    assert f"{heading}\n{mark}" == HEADING
    return rows


def test_each_model_has_its_row(lines: list[str]) -> None:
    assert [line.split("|")[1].strip() for line in lines] == [run.name for run in USUAL_RUNS]


def test_what_is_gated_is_what_the_pack_finds_in_every_architecture(lines: list[str], pack: Any) -> None:
    found = {run.name: gated_attentions(run, pack.nodes) for run in USUAL_RUNS}
    assert {line.split("|")[1].strip(): line.split("|")[4].strip() for line in lines} == found


def test_whoever_pays_for_guidance_saves_a_quarter_and_the_others_are_told_why(lines: list[str]) -> None:
    assert len(lines) >= 30
    for row in lines:
        _, _, run, _, _, _, _, saved, in_full, why, _ = (cell.strip() for cell in row.split("|"))
        if run.endswith("cfg 1"):
            assert "cfg is 1: no second pass to save" in why
        else:
            assert min(int(share.removesuffix(" %")) for share in (saved, in_full)) >= 25


@pytest.mark.slow
@pytest.mark.parametrize("name", CHEAP)
def test_a_row_is_what_its_command_counts(name: str, lines: list[str], pack: Any) -> None:
    (run,) = [run for run in USUAL_RUNS if run.name == name]
    assert line(run, pack.nodes) in lines


def test_every_row_names_models_that_are_tested() -> None:
    import parity_cases
    from test_random_graphs import TWO_LEVELS
    from test_unet_kin import KINS

    contract = {family.name for family in (*FAMILIES, *JOINT_FAMILIES)} | {TWO_LEVELS.name, *KINS}
    assert {run.contract for run in USUAL_RUNS} <= contract
    assert {run.parity for run in USUAL_RUNS if run.parity} <= set(parity_cases.MODELS)


def test_every_architecture_has_a_row() -> None:
    """Told from the tiny models that the rows name: the UNet's rows name none of these."""
    rows = {run.contract for run in USUAL_RUNS}
    tiny = [family for family in (*FAMILIES, *JOINT_FAMILIES) if family.name in rows]
    known = {architecture_of(family.make().model.diffusion_model) for family in tiny} - {None}
    assert known == set(ARCHITECTURES) - {UNET}
