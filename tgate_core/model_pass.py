"""One pass over the guidance branches: its plan, and the bank that each cond of each network call belongs to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

from .cache import CaptureCache
from .network_call import NetworkCall
from .request import UNCOND, CondKey, PassRequest
from .schedule import CROSS_ATTENTION, Action, AttentionKind


@dataclass(frozen=True)
class PassPlan:
    """What a pass does.

    Attributes:
        request: the pass as the sampler asks for it.
        actions: what happens to each kind of attention.
        branch: the only branch that runs, None for all that are asked for.
        captured_branch: the only branch whose captures are kept, None for all that run.
        keeps_difference: whether the guidance difference of this pass is kept.
    """

    request: PassRequest
    actions: Mapping[AttentionKind, Action]
    branch: int | None = None
    captured_branch: int | None = None
    keeps_difference: bool = False

    @property
    def is_anchored(self) -> bool:
        """Whether the uncond branch runs alone, on the merged captures of both."""
        return self.branch == UNCOND


def own_key(request: PassRequest, cond: CondKey, occurrence: int) -> Hashable:
    """Bank of one cond; `occurrence` counts the network calls that hold it within a pass (tiles)."""
    return request.place, cond, occurrence


def anchor_key(request: PassRequest, occurrence: int) -> Hashable:
    """Bank of the merged captures of both branches."""
    return request.place, (*request.conds(0), *request.conds(1)), occurrence


class ModelPass:
    """A pass while it runs. Network calls of several devices may ask at the same time."""

    def __init__(self, plan: PassPlan, cache: CaptureCache, now: int) -> None:
        self.plan = plan
        self.has_lost_text = False
        self._cache = cache
        self._now = now
        self._occurrences: Counter[CondKey] = Counter()
        self._lock = Lock()

    def begin_call(self, branches: Sequence[int], uuids: Sequence[Hashable], batch: int) -> NetworkCall | None:
        """A network call of this pass; None where it has nothing to do, or cannot tell its conds apart.

        Args:
            branches: guidance branch of each cond in the batch, in order.
            uuids: the host's id of each.
            batch: rows of the batch, conds outermost.
        """
        if all(action is Action.COMPUTE for action in self.plan.actions.values()):
            return None
        if not uuids or len(branches) != len(uuids) or batch % len(uuids) != 0:
            self._lose_text_if_anchored()
            return None
        keys = [self._bank_key(CondKey(branch, uuid)) for branch, uuid in zip(branches, uuids, strict=True)]
        on_lost_text = self._lose_text_if_anchored if self.plan.is_anchored else None
        return NetworkCall(self._cache, keys, self.plan.actions, self._now, on_lost_text)

    def _bank_key(self, cond: CondKey) -> Hashable | None:
        if self.plan.captured_branch not in (None, cond.branch):
            return None
        with self._lock:
            occurrence = self._occurrences[cond]
            self._occurrences[cond] += 1
        if self.plan.is_anchored:
            return anchor_key(self.plan.request, occurrence)
        return own_key(self.plan.request, cond, occurrence)

    def _lose_text_if_anchored(self) -> None:
        if self.plan.is_anchored and self.plan.actions[CROSS_ATTENTION] is Action.REUSE:
            self.has_lost_text = True
