"""What share of a network call attention and deep blocks are, counted; the core has these shares as constants.

They are what the strip under a node adds up before there is a run; `TGATE Report` counts the user's own network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any, NamedTuple

from .counting import build_on_meta, count_macs
from .models import FullSizeModel
from .pack import CROSS_ATTENTION, SELF_ATTENTION, Nodes, pack_core
from .published import Setting, gate
from .support import USUAL_RUNS

# Of the whole.
TOLERANCE = 0.002
HEADING = f"{'share of a call':26}{'self':>8}{'cross':>8}{'deep':>8}{'self, shallow':>15}{'cross, shallow':>16}"
# Sampled on shapes: one step of two keeps what attention gives, the other reuses it.
_STEPS, _GATE, _JOINT_GATE = 2, Setting(1), Setting(1, fi_interval=2)


class Shares(NamedTuple):
    """Shares of the MACs of a row, 0 to 1: of attention, of the deep blocks, and of attention outside of those."""

    self_attention: float
    cross_attention: float
    deep: float
    shallow_self: float
    shallow_cross: float


def measure(_options: Any, nodes: Nodes) -> int:
    """Print what is counted and what the core says; 1 if they are apart."""
    print(HEADING, flush=True)
    are_off = []
    for family, models in gated_models(nodes).items():
        found = []
        for name, model in models.items():
            shares = counted(model, nodes)
            print(_line(name, shares) if shares else f"{name:26} cannot be counted on shapes alone", flush=True)
            found += [shares] if shares else []
        are_off.append(is_off(found, told(family, nodes)))
        print(_line(f"= {family}", told(family, nodes)) + " OFF" * are_off[-1], flush=True)
    print(f"What the strip adds up stands behind =: {are_off.count(False)} of {len(are_off)} are within {TOLERANCE}.")
    return int(any(are_off))


def gated_models(nodes: Nodes) -> dict[str, dict[str, FullSizeModel]]:
    """Full-size models whose attentions are frozen, by preset family and name; those with joint attention, by scope."""
    networks = pack_core(nodes)("host.networks")
    found: dict[str, dict[str, FullSizeModel]] = {}
    for name, model in _different_models():
        patcher = build_on_meta(model)
        scope = networks.scope_of(patcher)
        if scope != "guidance alone":
            found.setdefault(networks.family_of(patcher) if scope == "all" else scope, {})[name] = model
    return found


def _different_models() -> Iterator[tuple[str, FullSizeModel]]:
    """Models of the support table, each once."""
    names = {id(run.model): run.name for run in reversed(USUAL_RUNS)}
    models = {id(run.model): run.model for run in USUAL_RUNS}
    return ((names[key], model) for key, model in models.items())


def counted(model: FullSizeModel, nodes: Nodes) -> Shares | None:
    """Shares of a call at the model's usual size, as TGATE Report counts them; None where it cannot."""
    core, patcher = pack_core(nodes), build_on_meta(model)
    is_frozen = core("host.networks").scope_of(patcher) == "all"
    patcher = gate(nodes, patcher, _GATE) if is_frozen else gate(nodes, patcher, _JOINT_GATE, guidance="keep")
    count_macs(patcher, model, nodes, steps=_STEPS, cfg=5.0)  # runs faster than it does uncounted
    try:
        costs = core("host.costs").row_costs(patcher, core("host.install").records_of(patcher).last)
    except core("host.costs").UncountableError:
        return None
    (cost,) = costs.values()
    return _shares_of(cost)


def told(family: str, nodes: Nodes) -> Shares:
    """What the core says of a preset family."""
    return _shares_of(pack_core(nodes)("report.work").shares_of(family))


def is_off(found: Sequence[Shares], told: Shares) -> bool:
    """Whether what is told is not the median of what was found."""
    middle = map(median, zip(*found, strict=True))
    return any(abs(counted - said) > TOLERANCE for counted, said in zip(middle, told, strict=True))


def _shares_of(cost: Any) -> Shares:
    """Of the core's RowCost."""
    parts = (
        *(cost.attention[kind] for kind in (SELF_ATTENTION, CROSS_ATTENTION)),
        cost.deep,
        *(cost.shallow_attention[kind] for kind in (SELF_ATTENTION, CROSS_ATTENTION)),
    )
    return Shares(*(part / cost.whole for part in parts))


def _line(name: str, shares: Shares) -> str:
    widths = (8, 8, 8, 15, 16)
    return f"{name:26}" + "".join(f"{share:>{width}.3f}" for share, width in zip(shares, widths, strict=True))
