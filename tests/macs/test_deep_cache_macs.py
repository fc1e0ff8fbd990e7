"""What DeepCache costs through the real nodes, beside the published rows: the other order, and deeper branches."""

from __future__ import annotations

from typing import Any

import pytest

from tgate_dev.bench.counting import build_on_meta, count_macs
from tgate_dev.bench.models import SD15, SDXL
from tgate_dev.bench.pack import Macs
from tgate_dev.bench.published import DEEP_CACHE, PUBLISHED_ROWS, TERA, TOLERANCE, gate

STEPS = 2


def deep_cache(pack: Any, patcher: Any, **settings: Any) -> Any:
    """The model as the node returns it, with the node's own defaults: interval 3, branch 0."""
    return pack.nodes["TGATEDeepCache"].execute(model=patcher, **settings).args[0]


@pytest.mark.slow
def test_behind_t_gate_it_costs_the_published_macs_too(pack: Any) -> None:
    (row,) = [row for row in PUBLISHED_ROWS if row.name.startswith(DEEP_CACHE) and row.setting]
    patcher = deep_cache(pack, gate(pack.nodes, build_on_meta(row.model), row.setting))
    macs = count_macs(patcher, row.model, pack.nodes, **row.run)
    assert macs.layers / TERA == pytest.approx(row.tera_macs, rel=TOLERANCE)


@pytest.mark.slow
def test_beside_a_preset_both_save(pack: Any) -> None:
    """Of the steps that `balanced` runs, 15 of 25, every third is a full one; the shallow ones of SDXL are cheap."""

    def cost(patcher: Any) -> float:
        return count_macs(patcher, SDXL, pack.nodes, steps=25, cfg=7.5).layers

    plain = build_on_meta(SDXL)
    balanced = pack.nodes["TGATEApply"].execute(model=plain, preset="balanced").args[0]
    shares = [cost(patcher) / cost(plain) for patcher in (balanced, deep_cache(pack, balanced))]
    assert shares == pytest.approx([0.6, 0.217], abs=0.01)


def test_deeper_branches_cost_more_and_never_all(pack: Any) -> None:
    def cost(**settings: Any) -> Macs:
        return count_macs(deep_cache(pack, build_on_meta(SD15), **settings), SD15, pack.nodes, steps=STEPS, cfg=7.5)

    plain = count_macs(build_on_meta(SD15), SD15, pack.nodes, steps=STEPS, cfg=7.5)
    costs = [cost(cache_branch_id=branch).layers for branch in (0, 1, 3, 9, 10)]
    assert sorted(set(costs)) == costs
    assert costs[-1] < plain.layers
    assert cost(cache_interval=1) == plain
