"""Full-size models through the real sampler and the real node cost what the papers say."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from tgate_dev.bench.macs import Macs, count_macs
from tgate_dev.bench.models import SD15, build_on_meta
from tgate_dev.bench.published import PUBLISHED_ROWS, PublishedRow, Setting

TOLERANCE = 1e-3


def row_id(row: PublishedRow) -> str:
    schedule = "-".join(str(value) for value in asdict(row.setting).values()) if row.setting else "plain"
    return f"{row.name} {schedule}"


def apply_node(pack: Any, patcher: Any, setting: Setting, guidance: str = "uncond") -> Any:
    """The model patched by the node."""
    output = pack.nodes["TGATEApplyAdvanced"].execute(
        model=patcher, **asdict(setting), gate_unit="step", guidance=guidance, cache_device="model"
    )
    return output.args[0]


@pytest.mark.slow
@pytest.mark.parametrize("row", PUBLISHED_ROWS, ids=row_id)
def test_run_costs_the_published_macs(row: PublishedRow, pack: Any) -> None:
    patcher = build_on_meta(row.model)
    if row.setting is not None:
        patcher = apply_node(pack, patcher, row.setting)
    macs = count_macs(patcher, row.model, steps=row.steps, cfg=row.cfg, sampler=row.sampler, scheduler=row.scheduler)
    assert macs.published / 1e12 == pytest.approx(row.tera_macs, rel=TOLERANCE)


def test_single_pass_guidance_costs_as_published_and_kept_guidance_twice_that(pack: Any) -> None:
    setting = Setting(gate=2, sp_interval=1, fi_interval=1, warm_up=0)

    def cost(guidance: str) -> Macs:
        return count_macs(apply_node(pack, build_on_meta(SD15), setting, guidance), SD15, steps=4, cfg=7.5)

    published = cost("uncond")
    assert cost("cond") == published
    assert cost("cached_delta") == published
    planning = count_macs(build_on_meta(SD15), SD15, steps=setting.gate, cfg=7.5).published
    assert cost("keep").published - planning == 2 * (published.published - planning)
