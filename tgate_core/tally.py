"""Counting what the network calls of a run did: step by step, and by kind of call for what they cost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from .network_call import NetworkCall
from .schedule import ATTENTION_KINDS, AttentionKind


class CallShape(NamedTuple):
    """What sets the cost of one row of a network call.

    Attributes:
        latent: shape of the latent without its batch dimension, (C, H, W) or more dimensions.
        text: shape of the text without its batch dimension, (tokens, width); None where the network takes none.
    """

    latent: tuple[int, ...]
    text: tuple[int, ...] | None


@dataclass
class CallCount:
    """Rows (conds * B) of all calls of one shape and depth.

    Attributes:
        rows: rows that went through the network.
        plain_rows: rows that would have, had no branch been dropped.
        reused: per kind of attention, rows times the share of its attentions that were handed out.
    """

    rows: int = 0
    plain_rows: float = 0.0
    reused: defaultdict[AttentionKind, float] = field(default_factory=lambda: defaultdict(float))


@dataclass
class StepTally:
    """One step.

    Attributes:
        calls: network calls of main passes.
        shallow_calls: those of them that left out the deep blocks.
        full_passes: passes in which all branches ran that were asked for, and there were two or more.
        dropped_passes: passes in which one branch ran in place of two.
        reused: per kind of attention, the sum over calls of the share that was handed out.
    """

    calls: int = 0
    shallow_calls: int = 0
    full_passes: int = 0
    dropped_passes: int = 0
    reused: defaultdict[AttentionKind, float] = field(default_factory=lambda: defaultdict(float))

    def note_call(self, call: NetworkCall | None) -> None:
        """Count a call of a main pass; None for one that had nothing to do."""
        self.calls += 1
        if call is None:
            return
        self.shallow_calls += call.is_shallow
        for kind, share in reused_shares(call).items():
            self.reused[kind] += share


def reused_shares(call: NetworkCall) -> Mapping[AttentionKind, float]:
    """Per kind of attention that a call met, the share that it handed out (0 to 1)."""
    return {kind: call.skipped[kind] / call.met[kind] for kind in ATTENTION_KINDS if call.met[kind]}
