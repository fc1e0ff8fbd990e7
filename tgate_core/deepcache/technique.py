"""DeepCache in one sampling run, and the deep feature in one call of the network."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from torch import Tensor

from ..engine.actions import DEEP_FEATURE, Action, CaptureKind
from ..engine.cache import Capture, CaptureCache, Site, gather
from ..engine.forward import ForwardCall
from ..engine.identity import BankKey, CondKey, FeatureOwner
from ..engine.storage import CacheSettings
from ..engine.technique import BatchPlan, Layout, NetworkSizes, RunContext, TechniqueRun
from .schedule import DeepCacheConfig, DeepSchedule, build_deep_schedule

NO_SHALLOW_STEP = "DeepCache: no step of this run lies between its full ones"
NO_FEATURE_AGAIN = "DeepCache: what a full step kept did not come up again at the same place of the run"


@dataclass(frozen=True)
class DeepCache:
    """DeepCache as a node has set it up."""

    config: DeepCacheConfig

    @property
    def cache_settings(self) -> CacheSettings | None:
        """Not for DeepCache to say."""
        return None

    def begin(self, context: RunContext) -> DeepCacheRun:
        """State for one run."""
        return DeepCacheRun(self.config, context)


class DeepCacheRun(TechniqueRun):
    """DeepCache in one run."""

    def __init__(self, config: DeepCacheConfig, context: RunContext) -> None:
        """
        Args:
            config: the settings.
            context: what the run is about.
        """
        self.branch = config.cache_branch_id
        self.schedule: DeepSchedule = build_deep_schedule(config, context.sigmas)
        self._config = config
        self._context = context
        self._now = 0

    @property
    def saves(self) -> bool:
        """Whether any step leaves out the deep blocks."""
        return bool(self.schedule.shallow)

    def lay_out(self, layout: Layout) -> None:
        """Steps that others need whole are full ones; those that others skip do not count."""
        self.schedule = build_deep_schedule(self._config, self._context.sigmas, layout.needs_full, layout.skipped)
        self.shallow = self.schedule.shallow

    def opening_reasons(self, saves_nothing: bool) -> Iterable[str]:
        """Full steps may leave none between."""
        return () if self.schedule.shallow else (NO_SHALLOW_STEP,)

    def closing_reasons(self) -> Iterable[str]:
        """Features may not have come up again."""
        return (NO_FEATURE_AGAIN,) if self.schedule.shallow and not self._context.counts.shallow_calls else ()

    @property
    def side_notes(self) -> frozenset[str]:
        """That there is no shallow step says nothing of the gate."""
        return frozenset({NO_SHALLOW_STEP})

    def begin_step(self, step: int, now: int, forgotten: int) -> None:
        """Captures are marked with the time of use."""
        self._now = now

    def is_live(self, kind: CaptureKind, step: int) -> bool:
        """Whether deep features are still going to be reused."""
        return kind == DEEP_FEATURE and self.schedule.live[step]

    def held_elements(self, sizes: NetworkSizes) -> int:
        """One deep feature."""
        return sizes.deep_feature(self.branch) if self.saves else 0

    def plan(self, plan: BatchPlan) -> BatchPlan:
        """How deep the network runs: all the way where later passes build on what it captures."""
        depth = self.schedule.steps[plan.step]
        if plan.is_relied_on and depth.action is Action.REUSE:
            depth = replace(depth, action=Action.CAPTURE)
        return replace(plan, depth=depth)

    def begin_call(self, call: ForwardCall, parts: Sequence[tuple[CondKey, Hashable]], x: Tensor) -> None:
        """The call's part in DeepCache; features are kept per cond, whichever branches run."""
        plan = call.plan
        if plan is None or plan.depth is None or plan.depth.action is Action.COMPUTE:
            return
        # The feature's own shape is not known before the network has run: that of what goes in stands for it.
        shape = (x.shape[0] // len(parts), *x.shape[1:], x.dtype, x.device)
        cycle, place = plan.depth.cycle, plan.batch.place
        keys = [BankKey(place, FeatureOwner(cond, cycle), (part, shape)) for cond, part in parts]
        call.depth = DeepCall(self._context.cache, keys, plan.depth.action, self._now, x.shape[0], self.branch)


class DeepCall:
    """Decides between `meet_skip` (the last input block that always runs) and `meet_feature` (the first such output).

    Made for one call and dropped with it. `is_shallow` turns true where `meet_skip` finds that what was kept fits: from
    there on the deep blocks are left out.
    """

    def __init__(
        self, cache: CaptureCache, bank_keys: Sequence[BankKey], action: Action, now: int, rows: int, branch: int = 0
    ) -> None:
        """
        Args:
            cache: the run's captures.
            bank_keys: bank of each cond in the batch, in order (conds are outermost in the batch dimension).
            action: CAPTURE or REUSE.
            now: the cache's time of use.
            rows: size of the batch, conds * B.
            branch: skip connection at which the network is cut.
        """
        self.branch = branch
        self.keys = bank_keys
        self._cache = cache
        self._now = now
        self._rows = rows
        self._banks = [cache.bank(key, now) if action is Action.REUSE else None for key in bank_keys]
        self._site = Site(DEEP_FEATURE, "output", 0, 0)
        self._has_begun = False
        self._is_other_run = False
        self._present: list[Capture | None] = []
        self._reused: Tensor | None = None
        self._expected: tuple[int, ...] = ()
        self.is_shallow = self.has_reused = False
        # Whether the network came here before in this call: which of the two runs what is kept belongs to is unknown.
        self.has_run_again = False

    @contextmanager
    def other_run(self) -> Iterator[None]:
        """While another node runs the network on something else within this call: all of it, on nothing kept."""
        before = self._is_other_run, self.is_shallow
        self._is_other_run, self.is_shallow = True, False
        try:
            yield
        finally:
            self._is_other_run, self.is_shallow = before

    def meet_skip(self, skip: Tensor) -> None:
        """The skip connection, (conds * B, C, H, W), that will be put beside the deep feature."""
        if self._is_other_run:
            return
        if self._has_begun:
            self.has_run_again, self.is_shallow, self._expected, self._reused = True, False, (), None
            return
        self._has_begun = True
        self._expected = (self._rows, *skip.shape[2:])
        self._present = [None if bank is None else bank.captures.get(self._site) for bank in self._banks]
        first = self._present[0]
        if first is not None and skip.shape[0] == self._rows:
            channels = first.base.shape[1]
            self._reused = gather(self._present, skip.narrow(1, 0, 1).expand(-1, channels, *skip.shape[2:]))
        self.is_shallow = self._reused is not None

    def meet_feature(self, h: Tensor) -> Tensor:
        """What goes on into the shallow blocks, (conds * B, C, H, W); nothing else holds it, so it may be written to.

        Args:
            h: what comes out of the deep blocks; without channels in a shallow call.
        """
        if self._is_other_run:
            return h
        reused, self._reused = self._reused, None
        if reused is not None:
            self.has_reused = True
            return reused.clone()
        # Where another node resizes within the network, or cuts the batch, no later call could tell that this fits.
        if (h.shape[0], *h.shape[2:]) != self._expected:
            return h
        kept = h.clone()  # what goes on may be written to
        given, _ = self._cache.store_missing(self.keys, self._site, kept, self._present, self._now)
        return h if given is kept else given
