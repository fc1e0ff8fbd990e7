"""What a run cost and would have cost, in multiply-accumulate operations (MACs)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..engine.actions import ATTENTION_KINDS, AttentionKind
from ..engine.counts import CallShape, RunCounts


@dataclass(frozen=True)
class RowCost:
    """MACs of linear and convolution layers, as the paper counts them, for one row of a network call.

    For networks whose attention stands inline in blocks, the matrix products of attention are counted too: they are all
    that is left out where it is reused.

    Attributes:
        whole: the whole network.
        deep: the deep blocks of it, which a shallow call leaves out.
        attention: all attentions of a kind.
        shallow_attention: those of them outside of the deep blocks.
    """

    whole: float
    deep: float
    attention: Mapping[AttentionKind, float]
    shallow_attention: Mapping[AttentionKind, float]


@dataclass(frozen=True)
class RunCost:
    """MACs of a run, and of the same run without them."""

    made: float
    plain: float

    @property
    def saved_share(self) -> float:
        """How much was saved, 0 to 1."""
        return 1 - self.made / self.plain if self.plain else 0.0


def run_cost(counts: RunCounts, rows: Mapping[CallShape, RowCost]) -> RunCost:
    """Add up a run.

    Args:
        counts: of the run.
        rows: cost of one row of each shape of call in it.
    """
    made = plain = 0.0
    for (shape, is_shallow), count in counts.rows.items():
        cost = rows[shape]
        attention = cost.shallow_attention if is_shallow else cost.attention
        made += count.rows * (cost.whole - cost.deep * is_shallow)
        made -= sum(count.reused[kind] * attention[kind] for kind in ATTENTION_KINDS)
        plain += count.plain_rows * cost.whole
    return RunCost(made, plain)
