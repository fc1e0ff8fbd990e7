"""What the counting on shapes finds is what torch's own counter finds, which watches every operation."""

from __future__ import annotations

from typing import Any

import comfy.ops
import pytest
from torch.utils.flop_counter import FlopCounterMode

from tgate_dev.bench.macs import count_macs
from tgate_dev.bench.models import build_on_meta
from tgate_dev.bench.unets import SD15
from tgate_dev.bench.usual import USUAL_RUNS, UsualRun, saved_at_preset

FLOPS_PER_MAC = 2
# Stable Audio's embedders of seconds run on the CPU, before sampling: torch's counter sees them.
OUTSIDE_OF_NETWORKS = 1e-6


@pytest.mark.parametrize("run", USUAL_RUNS, ids=lambda run: run.name)
def test_torchs_own_counter_agrees(run: UsualRun) -> None:
    ours = count_macs(build_on_meta(run.model), run.model, steps=1, cfg=5.0)
    with FlopCounterMode(display=False) as counter:
        count_macs(build_on_meta(run.model, comfy.ops.disable_weight_init), run.model, steps=1, cfg=5.0)
    assert counter.get_total_flops() / FLOPS_PER_MAC == pytest.approx(ours.full, rel=OUTSIDE_OF_NETWORKS)


def test_the_simple_node_saves(pack: Any) -> None:
    run = next(run for run in USUAL_RUNS if run.model is SD15)
    plain, gated = saved_at_preset(run, pack.nodes)
    assert gated.full < 0.6 * plain.full
