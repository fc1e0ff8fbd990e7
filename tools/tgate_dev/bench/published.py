"""The MACs table of the T-GATE papers (arXiv 2404.02747, versions 1 to 3), counted through the pack's nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from comfy.model_patcher import ModelPatcher

from .counting import build_on_meta, count_macs
from .models import PIXART_ALPHA, PIXART_SIGMA, SD15, SD21, SDXL, SVD, FullSizeModel
from .pack import Macs, Nodes

# Relative. The table's numbers are rounded, and were counted on other implementations of the models.
TOLERANCE = 1e-3
TERA = 10**12
# Rows of this name run DeepCache too, at interval 3 and branch 0, which are the node's defaults.
DEEP_CACHE = "DeepCache"
USUAL = {"steps": 25, "cfg": 7.5}
LCM = {"steps": 4, "cfg": 1.0, "sampler": "lcm", "scheduler": "sgm_uniform"}
HEADING = f"{'10¹² MACs':18}{'schedule':>10}{'published':>12}{'ours':>12}{'ratio':>9}{'in full':>12}"


class Setting(NamedTuple):
    """A schedule, in steps."""

    gate: int
    sp_interval: int = 1
    fi_interval: int = 1
    warm_up: int = 0


class PublishedRow(NamedTuple):
    """One number of the table: a run and its MACs in 10¹²; `setting` is None without T-GATE."""

    name: str
    model: FullSizeModel
    run: Mapping[str, Any]
    setting: Setting | None
    tera_macs: float

    @property
    def schedule(self) -> str:
        """The setting as written in the table."""
        return "plain" if self.setting is None else "/".join(map(str, self.setting))


# Without SVD's rows with self-attention reuse: they show half of what the published package itself saves there (it
# reuses spatial and temporal self-attention), so they cannot be reproduced.
_TABLE: tuple[tuple[str, FullSizeModel, Mapping[str, Any], Mapping[tuple[int, ...], float]], ...] = (
    ("SD-1.5", SD15, USUAL, {(): 16.938, (5,): 9.875, (10,): 11.641}),
    ("SD-2.1", SD21, USUAL, {(): 38.041, (5,): 22.208, (10,): 26.166}),
    ("SD-XL", SDXL, USUAL, {(): 149.438, (5,): 84.438, (10,): 100.688}),
    ("SD-XL", SDXL, USUAL, {(5, 3, 1, 1): 83.498, (10, 3, 1, 2): 96.928, (10, 5, 1, 2): 95.988}),
    ("SVD", SVD, USUAL, {(): 1609.25, (5,): 935.65, (10,): 1104.05}),
    ("PixArt-Alpha", PIXART_ALPHA, USUAL, {(): 107.031, (8,): 65.318, (10,): 70.225, (15,): 82.494}),
    ("PixArt-Alpha", PIXART_ALPHA, USUAL, {(10, 3, 1, 2): 65.355, (10, 5, 1, 2): 64.138}),
    ("PixArt-Alpha", PIXART_ALPHA, USUAL, {(15, 3, 1, 2): 73.971, (15, 5, 1, 2): 71.536}),
    ("PixArt-Sigma", PIXART_SIGMA, USUAL, {(): 107.766, (15, 3, 1, 2): 74.420}),
    ("LCM SD-XL", SDXL, LCM, {(): 11.955, (1,): 11.171, (2,): 11.433}),
    ("LCM PixArt-Alpha", PIXART_ALPHA, LCM, {(): 8.563, (1,): 7.623, (2,): 7.936}),
    (f"{DEEP_CACHE} SD-XL", SDXL, USUAL, {(): 57.888, (13,): 43.868}),
)
PUBLISHED_ROWS = tuple(
    PublishedRow(name, model, run, Setting(*setting) if setting else None, tera_macs)
    for name, model, run, numbers in _TABLE
    for setting, tera_macs in numbers.items()
)


def measure(_options: Any, nodes: Nodes) -> int:
    """Print the table; 1 if a number is missed."""
    print(HEADING, flush=True)
    are_off = []
    for row in PUBLISHED_ROWS:
        macs = row_macs(row, nodes)
        are_off.append(is_off(row, macs))
        print(line(row, macs), flush=True)
    print(summary(are_off))
    return int(any(are_off))


def gate(nodes: Nodes, patcher: ModelPatcher, setting: Setting, guidance: str = "uncond") -> ModelPatcher:
    """The gated model; by default with the published guidance."""
    given = {**setting._asdict(), "gate_unit": "step", "guidance": guidance, "cache_device": "model"}
    gated: ModelPatcher = nodes["TGATEApplyAdvanced"].execute(model=patcher, **given).args[0]
    return gated


def row_macs(row: PublishedRow, nodes: Nodes) -> Macs:
    """MACs of a row's run."""
    patcher = build_on_meta(row.model)
    if row.name.startswith(DEEP_CACHE):
        patcher = nodes["TGATEDeepCache"].execute(model=patcher).args[0]
    if row.setting is not None:
        patcher = gate(nodes, patcher, row.setting)
    return count_macs(patcher, row.model, nodes, **row.run)


def is_off(row: PublishedRow, macs: Macs) -> bool:
    """Whether a row misses the published number."""
    return abs(macs.layers / TERA / row.tera_macs - 1) > TOLERANCE


def line(row: PublishedRow, macs: Macs) -> str:
    """One row of the table; `in full` includes the matrix products of attention, which the paper leaves out."""
    ours = macs.layers / TERA
    return (
        f"{row.name:18}{row.schedule:>10}{row.tera_macs:>12.3f}{ours:>12.3f}{ours / row.tera_macs:>9.4f}"
        f"{macs.full / TERA:>12.3f}{' OFF' * is_off(row, macs)}"
    )


def summary(are_off: Sequence[bool]) -> str:
    """The last lines of the table."""
    within = f"{are_off.count(False)} of {len(are_off)} rows are within {TOLERANCE:.1%} of the published number."
    return f"Schedules are gate / sp_interval / fi_interval / warm_up.\n{within}"
