"""The deep feature in one call of the network: whether it is handed out, and what is kept of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from .cache import Capture, CaptureCache, Site, gather
from .request import BankKey
from .schedule import DEEP_FEATURE, Action


class DeepCall:
    """Decides between `meet_skip` (the last input block that always runs) and `meet_feature` (the first such output).

    Made for one call and dropped with it. `is_shallow` turns true where `meet_skip` finds that what was kept fits: from
    there on the deep blocks are left out.
    """

    def __init__(self, cache: CaptureCache, bank_keys: Sequence[BankKey], action: Action, now: int, rows: int) -> None:
        """
        Args:
            cache: the run's captures.
            bank_keys: bank of each cond in the batch, in order (conds are outermost in the batch dimension).
            action: CAPTURE or REUSE.
            now: the cache's time of use.
            rows: size of the batch, conds * B.
        """
        self.keys = bank_keys
        self._cache = cache
        self._now = now
        self._rows = rows
        self._banks = [cache.bank(key, now) if action is Action.REUSE else None for key in bank_keys]
        self._site = Site(DEEP_FEATURE, "output", 0, 0)
        self._has_begun = False
        self._is_other_run = False
        self._present: list[Capture | None] = []
        self._handout: Tensor | None = None
        self._expected: tuple[int, ...] = ()
        self.is_shallow = self.has_handed_out = False
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
            self.has_run_again, self.is_shallow, self._expected, self._handout = True, False, (), None
            return
        self._has_begun = True
        self._expected = (self._rows, *skip.shape[2:])
        self._present = [None if bank is None else bank.captures.get(self._site) for bank in self._banks]
        first = self._present[0]
        if first is not None and skip.shape[0] == self._rows:
            channels = first.base.shape[1]
            self._handout = gather(self._present, skip.narrow(1, 0, 1).expand(-1, channels, *skip.shape[2:]))
        self.is_shallow = self._handout is not None

    def meet_feature(self, h: Tensor) -> Tensor:
        """What goes on into the shallow blocks, (conds * B, C, H, W); nothing else holds it, so it may be written to.

        Args:
            h: what comes out of the deep blocks; without channels in a shallow call.
        """
        if self._is_other_run:
            return h
        handout, self._handout = self._handout, None
        if handout is not None:
            self.has_handed_out = True
            return handout.clone()
        # Where another node resizes within the network, or cuts the batch, no later call could tell that this fits.
        return self._capture(h) if (h.shape[0], *h.shape[2:]) == self._expected else h

    def _capture(self, h: Tensor) -> Tensor:
        """Keep the conds that have no feature; the others get theirs, as if they had been in a call of their own."""
        chunks = h.chunk(len(self.keys))
        reused = [gather([capture], chunk) for capture, chunk in zip(self._present, chunks, strict=True)]
        missing = [key if reuse is None else None for key, reuse in zip(self.keys, reused, strict=True)]
        self._cache.store(missing, self._site, h.clone(), self._now)
        if all(reuse is None for reuse in reused):
            return h
        return torch.cat([chunk if reuse is None else reuse for chunk, reuse in zip(chunks, reused, strict=True)])
