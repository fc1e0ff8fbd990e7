"""One pass over the guidance branches: its plan, and the bank that each cond of each network call belongs to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock

from torch import Tensor

from .cache import CaptureCache, Site
from .deep_cache import Depth
from .deep_call import DeepCall
from .network_call import NetworkCall
from .probe import Measurement
from .reasons import OTHER_BATCH, UNPLACED
from .request import BankKey, CondKey, FeatureOwner, PassRequest
from .schedule import CROSS_ATTENTION, Action, AttentionKind
from .tiles import find_tile, is_same

# Offset at which a cond's n-th network call of a pass was found last, by (cond, n).
TileMemory = dict[tuple[CondKey, int], tuple[int, ...]]


@dataclass(frozen=True)
class PassPlan:
    """What a pass does.

    Attributes:
        request: the pass as the sampler asks for it.
        actions: what happens to each kind of attention.
        branch: the only branch that runs, None for all that are asked for.
        is_anchored: whether that branch runs on the merged captures of both.
        captured_branch: the only branch whose captures are kept, None for all that run.
        sets_baseline: whether the passes that run one branch alone build on this one.
        depth: how deep the network runs; None where that is not for us to say.
        step: the step that it belongs to.
        site_actions: what some cross-attentions do instead, by `Site.name`.
    """

    request: PassRequest
    actions: Mapping[AttentionKind, Action]
    branch: int | None = None
    is_anchored: bool = False
    captured_branch: int | None = None
    sets_baseline: bool = False
    depth: Depth | None = None
    step: int = 0
    site_actions: Mapping[str, Action] = field(default_factory=dict)

    @property
    def plain_share(self) -> float:
        """How many conds would run without T-GATE for each that runs."""
        if self.branch is None:
            return 1.0
        return len(self.request.pair) / max(1, len(self.request.conds(self.branch)))

    @property
    def is_idle(self) -> bool:
        """Whether its network calls neither capture nor reuse anything."""
        is_deep_idle = self.depth is None or self.depth.action is Action.COMPUTE
        actions = (*self.actions.values(), *self.site_actions.values())
        return is_deep_idle and all(action is Action.COMPUTE for action in actions)


class ModelPass:
    """A pass while it runs. Network calls of several devices may ask at the same time.

    `reasons` says why calls of it were computed as usual where something was to be captured or reused.
    """

    def __init__(
        self,
        plan: PassPlan,
        cache: CaptureCache,
        now: int,
        latent: Tensor,
        tiles: TileMemory,
        measurement: Measurement | None = None,
        is_as_cut: bool = True,
    ) -> None:
        """
        Args:
            plan: what it does.
            cache: the run's captures.
            now: the cache's time of use.
            latent: what is denoised, (B, C, H, W) or more dimensions.
            tiles: where tiles were found in earlier passes of the run.
            measurement: told of each attention's output; None where nothing is measured.
            is_as_cut: whether its network calls are given what the host cuts out of the latent for sure.
        """
        self.plan = plan
        self.has_lost_text = False
        # Whether captures went to a network call of which it turned out later that they may belong to another run of
        # the network.
        self.is_void = False
        # Whether the network ran in each of its calls; else another node put a guess in its place.
        self.has_run = True
        self.reasons: set[str] = set()
        self._cache = cache
        self._now = now
        self._latent = latent
        self._tiles = tiles
        self._measurement = measurement
        self._is_as_cut = is_as_cut
        self._occurrences: Counter[CondKey] = Counter()
        self._lock = Lock()

    @property
    def is_idle(self) -> bool:
        """Whether its network calls have nothing to do beside what they do without T-GATE."""
        return self.plan.is_idle and self._measurement is None

    def begin_call(
        self, branches: Sequence[int], uuids: Sequence[Hashable], x: Tensor, is_from_host: bool = True, visits: int = 1
    ) -> NetworkCall | None:
        """A network call of this pass; None where it has nothing to do, or cannot tell what it is given.

        Args:
            branches: guidance branch of each cond in the batch, in order.
            uuids: the host's id of each.
            x: the noisy latents of the call, (conds * B, C, H, W): the whole latent, a cond's area of it, or a tile.
            is_from_host: whether no other node stands between the host and the call; else the values tell what it is.
            visits: how often the network comes to attentions of the same names when it runs once.
        """
        if self.is_idle:
            return None
        parts = self._parts(branches, uuids, x, is_from_host and self._is_as_cut)
        if parts is None:
            return None
        keys = [self._bank_key(cond, part) for cond, part in parts]
        on_lost_text = self.step_aside if self.plan.is_anchored else None
        plan, observer = self.plan, self._observer(parts)
        call = NetworkCall(
            self._cache, keys, plan.actions, self._now, on_lost_text, plan.site_actions, observer, visits
        )
        call.deep = self._deep_call(parts, x)
        return call

    def end_call(self, call: NetworkCall) -> bool:
        """A network call is over; returns whether it ran the network once, as it must for captures to have a place."""
        if not call.has_run_again:
            return True
        call.forget()
        self.is_void = self.is_void or call.has_handed_out
        return False

    def _observer(self, parts: Sequence[tuple[CondKey, Hashable]]) -> Callable[[Site, Tensor], None] | None:
        """Who is told of the outputs of a call with these conds."""
        if self._measurement is None:
            return None
        keys = [BankKey(self.plan.request.place, cond, part) for cond, part in parts]
        measurement, step = self._measurement, self.plan.step
        return lambda site, tokens: measurement.note_output(step, site, keys, tokens)

    def step_aside(self, reason: str | None = None) -> None:
        """Something of this pass is computed as usual; on merged captures that would lose, or mix, the text."""
        if reason is not None:
            self.reasons.add(reason)
        if self.plan.is_anchored and self.plan.actions[CROSS_ATTENTION] is Action.REUSE:
            self.has_lost_text = True

    def _deep_call(self, parts: Sequence[tuple[CondKey, Hashable]], x: Tensor) -> DeepCall | None:
        """What the call does with deep features; they are kept per cond, whichever branches run."""
        depth = self.plan.depth
        if depth is None or depth.action is Action.COMPUTE:
            return None
        # The feature's own shape is not known before the network has run: that of what goes in stands for it.
        shape = (x.shape[0] // len(parts), *x.shape[1:], x.dtype, x.device)
        place = self.plan.request.place
        keys = [BankKey(place, FeatureOwner(cond, depth.cycle), (part, shape)) for cond, part in parts]
        return DeepCall(self._cache, keys, depth.action, self._now, x.shape[0])

    def _parts(
        self, branches: Sequence[int], uuids: Sequence[Hashable], x: Tensor, is_as_cut: bool
    ) -> list[tuple[CondKey, Hashable]] | None:
        """Each cond in a call, and which part of it that is; None where that cannot be told."""
        conds = [CondKey(branch, uuid) for branch, uuid in zip(branches, uuids, strict=False)]
        if not conds or len(branches) != len(uuids) or x.shape[0] != len(conds) * self._latent.shape[0]:
            self.step_aside(OTHER_BATCH)
            return None
        parts = [self._part(cond, x, (index, len(conds)), is_as_cut) for index, cond in enumerate(conds)]
        if None in parts:
            self.step_aside(UNPLACED)
            return None
        return list(zip(conds, parts, strict=True))

    def _part(self, cond: CondKey, x: Tensor, chunk_of: tuple[int, int], is_as_cut: bool) -> Hashable | None:
        """Which part of its cond a chunk of a call is, by its index and their number; None where it cannot be told."""
        with self._lock:
            occurrence = self._occurrences[cond]
            self._occurrences[cond] += 1
        is_expected = tuple(x.shape[2:]) in self.plan.request.shapes.get(cond, ())
        if is_expected and is_as_cut:
            return occurrence
        index, count = chunk_of
        chunk = x.chunk(count)[index]
        if is_expected and is_same(chunk, self._latent):
            return occurrence
        guess = self._tiles.get((cond, occurrence))
        offset = find_tile(chunk, self._latent.to(chunk.device), guess)
        if offset is not None:
            self._tiles[cond, occurrence] = offset
        return None if offset is None else (*offset, *chunk.shape[2:])

    def _bank_key(self, cond: CondKey, part: Hashable) -> BankKey | None:
        if self.plan.captured_branch not in (None, cond.branch):
            return None
        request = self.plan.request
        return BankKey(request.place, request.pair if self.plan.is_anchored else cond, part)
