"""What share of the plain run's work a run leaves out, from its steps alone: at once, and before there is a run.

Work is MACs of linear and convolution layers, as the paper counts them. `dev.py bench macs` counts the shares below, on
the networks at full size and usual resolutions; `TGATE Report` counts the user's own network.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from ..engine.actions import CROSS_ATTENTION, SELF_ATTENTION, AttentionKind
from ..engine.counts import CallShape
from ..presets import GENERIC
from .cost import RowCost, run_cost
from .record import RunRecord
from .timeline import StepCell


def _shares(
    self_attention: float, cross_attention: float, deep: float = 0.0, shallow: tuple[float, float] | None = None
) -> RowCost:
    """Cost of a row beside the whole network's; `shallow` are the attentions outside of the deep blocks."""

    def by_kind(own: float, other: float) -> dict[AttentionKind, float]:
        return {SELF_ATTENTION: own, CROSS_ATTENTION: other}

    attention = by_kind(self_attention, cross_attention)
    return RowCost(1.0, deep, attention, attention if shallow is None else by_kind(*shallow))


_SDXL = _shares(0.157, 0.087, deep=0.957, shallow=(0.0, 0.0))
_SD = _shares(0.076, 0.041, deep=0.831, shallow=(0.015, 0.008))
# By preset family. Of the others, from ACE-Step 1.5 (0.123, 0.103) to Wan 2.1 14B (0.350, 0.178), the median.
SHARES: dict[str, RowCost] = {
    "sd15": _SD,
    "sd21": _SD,
    "sdxl": _SDXL,
    "playground-2.5": _SDXL,
    "svd": _shares(0.089, 0.046, deep=0.820, shallow=(0.018, 0.009)),
    "pixart": _shares(0.284, 0.149),
    GENERIC: _shares(0.275, 0.148),
    # From Lumina 2 (0.169) to Qwen-Image (0.333), the median.
    "joint attention": _shares(0.308, 0.0),
    # The products of attention included: nothing else is left out. From Flux.2 Klein 9B (0.147) to long videos (0.9),
    # the median.
    "inline joint attention": _shares(0.213, 0.0),
}


def shares_of(family: str) -> RowCost:
    """Shares of a preset family; of one that is not known, those of a usual network."""
    return SHARES.get(family, SHARES[GENERIC])


def planned_saving(cells: Iterable[StepCell], family: str, is_guided: bool) -> float:
    """The share of the work that a planned run leaves out, 0 to 1.

    Args:
        cells: its steps.
        family: preset family of the model.
        is_guided: whether the plain run uses classifier-free guidance.
    """
    shares, made, steps = shares_of(family), 0.0, 0
    for cell in cells:
        steps += 1
        if cell.is_predicted:
            continue
        attention = shares.shallow_attention if cell.is_shallow else shares.attention
        row = 1.0 - shares.deep * cell.is_shallow
        row -= cell.self_reused * attention[SELF_ATTENTION] + cell.cross_reused * attention[CROSS_ATTENTION]
        made += row * (2 if cell.is_guided else 1)
    return 1.0 - made / (steps * (2 if is_guided else 1)) if steps else 0.0


def run_saving(record: RunRecord) -> float:
    """The share of the work that a run left out, 0 to 1."""
    shares: defaultdict[CallShape, RowCost] = defaultdict(lambda: shares_of(record.family))
    return 0.0 if record.is_plain else run_cost(record.counts, shares).saved_share
