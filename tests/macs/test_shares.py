"""The shares of work that the strip adds up before there is a run are those that are counted at full size."""

from __future__ import annotations

from typing import Any

import pytest

from tgate_core.presets import GENERIC, PUBLISHED_ROWS
from tgate_core.report.work import SHARES
from tgate_dev.bench.models import FullSizeModel
from tgate_dev.bench.shares import Shares, counted, gated_models, is_off, told

PUBLISHED = ("sd15", "sd21", "sdxl", "svd", "pixart")
SEVERAL = (GENERIC, "joint attention", "inline joint attention")
# Which expert a token goes to is decided by its values.
UNCOUNTABLE = {"HiDream Full"}


@pytest.fixture(scope="module")
def gated(pack: Any) -> dict[str, dict[str, FullSizeModel]]:
    return gated_models(pack.nodes)


@pytest.mark.parametrize(
    "family", [*PUBLISHED, *(pytest.param(several, marks=pytest.mark.slow) for several in SEVERAL)]
)
def test_shares_are_what_is_counted_at_full_size(
    family: str, gated: dict[str, dict[str, FullSizeModel]], pack: Any
) -> None:
    found = {name: counted(model, pack.nodes) for name, model in gated[family].items()}
    assert {name for name, shares in found.items() if shares is None} <= UNCOUNTABLE
    assert not is_off([shares for shares in found.values() if shares], told(family, pack.nodes))


def test_every_family_is_counted(gated: dict[str, dict[str, FullSizeModel]], pack: Any) -> None:
    assert {*SHARES} == {*PUBLISHED_ROWS, *SEVERAL}
    assert {*gated} == {*PUBLISHED, *SEVERAL}
    assert told("playground-2.5", pack.nodes) == told("sdxl", pack.nodes)  # of one network


def test_a_share_that_is_off_is_found() -> None:
    found = [Shares(0.1, 0.2, 0.3, 0.0, 0.0), Shares(0.11, 0.2, 0.3, 0.0, 0.0), Shares(0.5, 0.2, 0.3, 0.0, 0.0)]
    assert not is_off(found, Shares(0.11, 0.2, 0.3, 0.0, 0.0))
    assert is_off(found, Shares(0.12, 0.2, 0.3, 0.0, 0.0))
    assert is_off(found, Shares(0.11, 0.2, 0.3, 0.0, 0.01))
