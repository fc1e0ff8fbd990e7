"""What the counting on shapes finds is what torch's own counter finds, which watches every operation."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tgate_dev.bench.counting import build_on_meta, count_macs, sample
from tgate_dev.bench.models import PIXART_ALPHA, SD15, SVD, FullSizeModel
from tgate_dev.bench.published import Setting, gate
from tgate_dev.bench.support import USUAL_RUNS, UsualRun, saved_at_preset

FLOPS_PER_MAC = 2
# Stable Audio's embedders of seconds run on the CPU, before sampling: torch's counter sees them.
OUTSIDE_OF_NETWORKS = 1e-6
# Embeddings of time are made once a call, whatever its rows.
ONCE_A_CALL = 1e-4
# Of each kind of network the first, which is the smallest.
KINDS = tuple({run.contract: run for run in reversed(USUAL_RUNS)}.values())


# Whose blocks cannot be left out: they know their number, or take what an earlier one gave.
WHOLE = ("two levels", "Playground 2.5", "Stable Video Diffusion", "HunyuanDiT", "HiDream", "Mochi", "Hunyuan3D 2.1")


def shorten(network: nn.Module) -> None:
    """Leaves the first two blocks and the last of each row: torch's counter takes seconds for the like of them."""
    for blocks in network.children():
        if isinstance(blocks, nn.ModuleList) and len({type(block) for block in blocks}) == 1:
            del blocks[2:-1]


@pytest.mark.parametrize("run", KINDS, ids=lambda run: run.name)
def test_torchs_own_counter_agrees(run: UsualRun, pack: Any) -> None:
    patcher = build_on_meta(run.model)
    if run.contract not in WHOLE:
        shorten(patcher.model.diffusion_model)
    ours = count_macs(patcher, run.model, pack.nodes, steps=1, cfg=5.0)
    with FlopCounterMode(display=False) as counter:
        sample(patcher, run.model, steps=1, cfg=5.0)
    assert counter.get_total_flops() / FLOPS_PER_MAC == pytest.approx(ours.full, rel=OUTSIDE_OF_NETWORKS)


@pytest.mark.parametrize("model", [SD15, SVD, PIXART_ALPHA], ids=lambda model: model.host_class)
def test_the_report_tells_what_was_counted(model: FullSizeModel, pack: Any) -> None:
    """It multiplies what a call of each kind costs; torch runs some layers of SVD and PixArt as batches of products."""
    patcher = gate(pack.nodes, build_on_meta(model), Setting(gate=2, sp_interval=2), "cached_delta")
    seen = count_macs(patcher, model, pack.nodes, steps=3, cfg=5.0)
    plain = count_macs(build_on_meta(model), model, pack.nodes, steps=3, cfg=5.0)
    record = pack.core("host.install").records_of(patcher).last
    told = pack.core("host.costs").count_run(patcher, record)
    assert told.made == pytest.approx(seen.layers, rel=ONCE_A_CALL)
    assert told.plain == pytest.approx(plain.layers, rel=ONCE_A_CALL)


def test_the_simple_node_saves(pack: Any) -> None:
    run = next(run for run in USUAL_RUNS if run.model is SD15)
    plain, gated, _ = saved_at_preset(run, pack.nodes)
    assert gated.full < 0.62 * plain.full
