"""Full-size models through the real sampler and the real node cost what the papers say."""

from __future__ import annotations

from typing import Any

import pytest

from tgate_dev.bench.counting import build_on_meta, count_macs
from tgate_dev.bench.models import SD15
from tgate_dev.bench.pack import Macs
from tgate_dev.bench.published import DEEP_CACHE, PUBLISHED_ROWS, TERA, TOLERANCE, PublishedRow, Setting, gate, row_macs


@pytest.mark.slow
@pytest.mark.parametrize("row", PUBLISHED_ROWS, ids=lambda row: f"{row.name} {row.schedule}")
def test_run_costs_the_published_macs(row: PublishedRow, pack: Any) -> None:
    times = 1
    if row.setting is None and not row.name.startswith(DEEP_CACHE):
        # Its steps are all the same, see below.
        times = row.run["steps"]
        row = row._replace(run={**row.run, "steps": 1})
    assert times * row_macs(row, pack.nodes).layers / TERA == pytest.approx(row.tera_macs, rel=TOLERANCE)


def test_steps_of_a_plain_run_cost_the_same(pack: Any) -> None:
    one, five = (count_macs(build_on_meta(SD15), SD15, pack.nodes, steps=steps, cfg=7.5) for steps in (1, 5))
    assert (five.layers, five.full) == (5 * one.layers, 5 * one.full)


def test_single_pass_guidance_costs_as_published_and_kept_guidance_twice_that(pack: Any) -> None:
    setting = Setting(gate=2, sp_interval=1, fi_interval=1, warm_up=0)

    def cost(guidance: str) -> Macs:
        return count_macs(gate(pack.nodes, build_on_meta(SD15), setting, guidance), SD15, pack.nodes, steps=4, cfg=7.5)

    published = cost("uncond")
    assert cost("cond") == published
    assert cost("cached_delta") == published
    planning = count_macs(build_on_meta(SD15), SD15, pack.nodes, steps=setting.gate, cfg=7.5).layers
    assert cost("keep").layers - planning == 2 * (published.layers - planning)
