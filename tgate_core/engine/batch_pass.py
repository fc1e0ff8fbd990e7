"""A cond batch while it runs: the bank that each cond of each network call belongs to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from threading import Lock
from typing import Any

from torch import Tensor

from .actions import CROSS_ATTENTION, Action
from .cache import CaptureCache
from .forward import ForwardCall
from .identity import BankKey, CondKey
from .location import find_tile, is_same
from .reasons import OTHER_BATCH, UNPLACED
from .technique import BatchPlan, TechniqueRun

# Offset at which a cond's n-th network call of a pass was found last, by (cond, n).
TileMemory = dict[tuple[CondKey, int], tuple[int, ...]]


class CondBatchPass:
    """One pass over a cond batch. Network calls of several devices may ask at the same time."""

    def __init__(
        self,
        plan: BatchPlan,
        cache: CaptureCache,
        now: int,
        latent: Tensor,
        tiles: TileMemory,
        techniques: Sequence[TechniqueRun] = (),
        is_as_cut: bool = True,
    ) -> None:
        """
        Args:
            plan: what it does.
            cache: the run's captures.
            now: the cache's time of use.
            latent: what is denoised, (B, C, H, W) or more dimensions.
            tiles: where tiles were found in earlier passes of the run.
            techniques: those of the run, told of each network call.
            is_as_cut: whether its network calls are given what the host cuts out of the latent for sure.
        """
        self.plan = plan
        # Whether cross-attention was computed where merged captures were to stand in: the text is lost, or mixed.
        self.has_missed_anchor = False
        # Whether captures went to a network call that may have been another run of the network.
        self.is_void = False
        # Why calls of it were computed as usual where something was to be captured or reused.
        self.reasons: set[str] = set()
        # Whether the network ran in each of its calls; else another node put a guess in its place.
        self.has_run = plan.runs_network
        self.device = latent.device
        self._cache = cache
        self._now = now
        self._latent = latent
        self._tiles = tiles
        self._techniques = techniques
        self._is_as_cut = is_as_cut
        self._occurrences: Counter[CondKey] = Counter()
        self._lock = Lock()

    def begin_call(
        self,
        branches: Sequence[int],
        uuids: Sequence[Hashable],
        x: Tensor,
        model: Any = None,
        is_from_host: bool = True,
        visits: int = 1,
    ) -> ForwardCall:
        """A network call of this pass; inactive if there is nothing to do, or if the call cannot be identified.

        Args:
            branches: guidance branch of each cond in the batch, in order.
            uuids: the host's id of each.
            x: the noisy latents of the call, (conds * B, C, H, W): the whole latent, a cond's area of it, or a tile.
            model: the host's model that is called.
            is_from_host: whether no other node stands between the host and the call; else the values tell what it is.
            visits: how often the network comes to attentions of the same names when it runs once.
        """
        if self.plan.is_idle:
            return ForwardCall(model, self.plan)
        parts = self._parts(branches, uuids, x, is_from_host and self._is_as_cut)
        if parts is None:
            return ForwardCall(model, self.plan)
        keys = [self._bank_key(cond, part) for cond, part in parts]
        on_anchor_miss = self._note_anchor_miss if self.plan.uses_merged_captures else None
        call = ForwardCall(model, self.plan, self._cache, keys, self._now, on_anchor_miss, visits)
        for technique in self._techniques:
            technique.begin_call(call, parts, x)
        return call

    def step_aside(self, reason: str, model: Any = None) -> ForwardCall:
        """A network call in which everything is computed as usual, and why."""
        self.reasons.add(reason)
        self._note_anchor_miss()
        return ForwardCall(model, self.plan)

    def end_call(self, call: ForwardCall) -> bool:
        """A network call is over; returns whether it ran the network once, as it must for captures to have a place."""
        if not call.has_run_again:
            return True
        call.forget()
        self.is_void = self.is_void or call.has_reused
        return False

    def _note_anchor_miss(self) -> None:
        """Something of this pass is computed as usual; on merged captures that would lose, or mix, the text."""
        if self.plan.uses_merged_captures and self.plan.actions[CROSS_ATTENTION] is Action.REUSE:
            self.has_missed_anchor = True

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
        """Which part of its cond a chunk, by index and number of chunks, of a call is; None where it cannot be told."""
        with self._lock:
            occurrence = self._occurrences[cond]
            self._occurrences[cond] += 1
        is_expected = tuple(x.shape[2:]) in self.plan.batch.shapes.get(cond, ())
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
        batch = self.plan.batch
        return BankKey(batch.place, batch.pair if self.plan.uses_merged_captures else cond, part)
