"""What can happen to a part of the network in a step, and which parts there are."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Literal

AttentionKind = Literal["attn1", "attn2"]
SELF_ATTENTION: AttentionKind = "attn1"
CROSS_ATTENTION: AttentionKind = "attn2"
ATTENTION_KINDS: tuple[AttentionKind, ...] = (SELF_ATTENTION, CROSS_ATTENTION)

# All that is ever captured: outputs of attentions, and what enters the shallow half of a UNet.
CaptureKind = Literal["attn1", "attn2", "deep"]
DEEP_FEATURE: CaptureKind = "deep"
CAPTURE_KINDS: tuple[CaptureKind, ...] = (*ATTENTION_KINDS, DEEP_FEATURE)


class Action(Enum):
    """What happens to an attention, or to the deep blocks, in one step."""

    COMPUTE = "compute"
    CAPTURE = "compute and capture"
    REUSE = "reuse"


def drop_idle_captures(actions: Sequence[Action]) -> tuple[tuple[Action, ...], tuple[bool, ...]]:
    """Turn captures that nothing reuses into plain computing.

    Args:
        actions: one a step.

    Returns:
        The actions; and per step, whether a capture that exists when the step begins is still going to be reused.
    """
    kept: list[Action] = []
    live: list[bool] = []
    is_reused_later = False
    for action in reversed(actions):
        if action is Action.CAPTURE:
            kept.append(Action.CAPTURE if is_reused_later else Action.COMPUTE)
            is_reused_later = False
        else:
            kept.append(action)
            is_reused_later = is_reused_later or action is Action.REUSE
        live.append(is_reused_later)
    return tuple(reversed(kept)), tuple(reversed(live))
