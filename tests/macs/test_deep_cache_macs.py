"""DeepCache through the real nodes costs what the T-GATE paper's table says, alone and with T-GATE."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from tgate_dev.bench.macs import Macs, count_macs
from tgate_dev.bench.models import SD15, FullSizeModel, build_on_meta
from tgate_dev.bench.published import DEEP_CACHE_ROWS, PublishedRow, Setting

TOLERANCE = 1e-3
STEPS = 2
ORDERS = ["DeepCache first", "T-GATE first"]


def nodes_applied(pack: Any, patcher: Any, setting: Setting | None, order: str, **deep: Any) -> Any:
    """The model patched by both nodes, or by DeepCache alone."""

    def gate(model: Any) -> Any:
        if setting is None:
            return model
        node = pack.nodes["TGATEApplyAdvanced"]
        return node.execute(model=model, **asdict(setting), guidance="uncond", cache_device="model").args[0]

    def deep_cache(model: Any) -> Any:
        return pack.nodes["TGATEDeepCache"].execute(model=model, **deep).args[0]

    return gate(deep_cache(patcher)) if order == ORDERS[0] else deep_cache(gate(patcher))


def cost(pack: Any, model: FullSizeModel, **deep: Any) -> Macs:
    return count_macs(nodes_applied(pack, build_on_meta(model), None, ORDERS[0], **deep), model, steps=STEPS, cfg=7.5)


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("row", DEEP_CACHE_ROWS, ids=lambda row: row.name)
def test_run_costs_the_published_macs(row: PublishedRow, pack: Any, order: str) -> None:
    patcher = nodes_applied(pack, build_on_meta(row.model), row.setting, order)
    macs = count_macs(patcher, row.model, steps=row.steps, cfg=row.cfg)
    assert macs.published / 1e12 == pytest.approx(row.tera_macs, rel=TOLERANCE)


def test_deeper_branches_cost_more_and_never_all(pack: Any) -> None:
    plain = count_macs(build_on_meta(SD15), SD15, steps=STEPS, cfg=7.5)
    costs = [cost(pack, SD15, cache_branch_id=branch).published for branch in (0, 1, 3, 9, 10)]
    assert sorted(set(costs)) == costs
    assert costs[-1] < plain.published
    assert cost(pack, SD15, cache_interval=1) == plain
