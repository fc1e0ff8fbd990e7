"""One call of the network: which attention outputs it hands out, which it captures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from .cache import Capture, CaptureCache, Site, gather
from .deep_call import DeepCall
from .reasons import MISFIT, UNREACHED
from .request import BankKey
from .schedule import CROSS_ATTENTION, Action, AttentionKind


class NetworkCall:
    """Decides site by site, between `enter` (before an attention) and `leave` (after it, before the residual).

    Made for one call and dropped with it. Everything that needs a decision was decided before; a site costs a few
    dictionary look-ups and no synchronisation. `deep` is its part in DeepCache, None where it has none.
    """

    def __init__(
        self,
        cache: CaptureCache,
        bank_keys: Sequence[BankKey | None],
        actions: Mapping[AttentionKind, Action],
        now: int,
        on_lost_text: Callable[[], None] | None = None,
        site_actions: Mapping[str, Action] | None = None,
        observer: Callable[[Site, Tensor], None] | None = None,
        visits: int = 1,
    ) -> None:
        """
        Args:
            cache: the run's captures.
            bank_keys: bank of each cond in the batch, in order (conds are outermost in the batch dimension); None for a
                cond whose captures are not kept.
            actions: what to do for each kind of attention.
            now: the cache's time of use.
            on_lost_text: given where only the uncond branch runs: a cross-attention that has to be computed would
                then see the wrong text, so it is reported and not captured.
            site_actions: for some cross-attentions, by `Site.name`, what to do instead.
            observer: told what each attention gives to the residual, (conds * B, tokens, channels).
            visits: how often the network comes to attentions of the same names when it runs once.
        """
        self._cache = cache
        self._keys = bank_keys
        self._banks = [None if key is None else cache.bank(key, now) for key in bank_keys]
        self._actions = actions
        self._now = now
        self._on_lost_text = on_lost_text
        self._site_actions = site_actions or {}
        self._observer = observer
        self._most_visits = visits
        self._is_other_run = False
        self._is_overrun = False
        self._is_captured = False
        # Whether an output had another form than its capture, or none that can be captured.
        self.has_misfit = False
        # How often the network came to attentions of the same names, by the first of them.
        self._visits: dict[Site, int] = {}
        self._site: Site | None = None
        self._nothing: list[Capture | None] = [None] * len(bank_keys)
        self._present = self._nothing
        self._handout: Tensor | None = None
        # Attentions of each kind that this call had a say in, and those of them that were handed out.
        self.met: Counter[AttentionKind] = Counter()
        self.skipped: Counter[AttentionKind] = Counter()
        self.deep: DeepCall | None = None

    @property
    def is_handing_out(self) -> bool:
        """Whether the attention that comes next is to be skipped."""
        return self._handout is not None

    @property
    def has_handed_out(self) -> bool:
        """Whether any capture was reused so far."""
        return self.skipped.total() > 0 or (self.deep is not None and self.deep.has_handed_out)

    @property
    def has_run_again(self) -> bool:
        """Whether the network came to a place more often than it does when it runs once.

        Then another node runs it again, on what nobody says: which of its runs a capture belongs to is unknown.
        """
        return self._is_overrun or (self.deep is not None and self.deep.has_run_again)

    @contextmanager
    def other_run(self) -> Iterator[None]:
        """While another node runs the network on something else within this call: that is computed as usual."""
        before, self._is_other_run = self._is_other_run, True
        try:
            with nullcontext() if self.deep is None else self.deep.other_run():
                yield
        finally:
            self._is_other_run = before

    def forget(self) -> None:
        """Give up everything that is captured for the conds of this call."""
        for key in (*self._keys, *(self.deep.keys if self.deep is not None else ())):
            if key is not None:
                self._cache.drop(key)

    @property
    def is_shallow(self) -> bool:
        """Whether the deep blocks are left out."""
        return self.deep is not None and self.deep.is_shallow

    @property
    def reasons(self) -> Iterator[str]:
        """Why this call, once it is done, was computed as usual where it was to capture or to reuse."""
        if self.has_misfit:
            yield MISFIT
        is_asked_for = self._observer is not None or any(
            action is not Action.COMPUTE for action in self._actions.values()
        )
        # The shallow blocks of some networks hold no attention.
        if is_asked_for and not self.met and not self.is_shallow:
            yield UNREACHED

    def enter(self, kind: AttentionKind, block: Hashable, block_index: int, tokens: Tensor) -> bool:
        """Before an attention; returns whether it is skipped.

        Args:
            kind: self- or cross-attention.
            block: the host's name of the block.
            block_index: the host's index within the block.
            tokens: input of the attention, (conds * B, tokens, channels).
        """
        self._handout = self._site = None
        if self._is_other_run or self.has_run_again:
            return False
        action = self._actions[kind]
        has_own_action = bool(self._site_actions) and kind == CROSS_ATTENTION
        if action is Action.COMPUTE and self._observer is None and not has_own_action:
            return False
        site = self._next_site(kind, block, block_index)
        self._is_overrun = site.nth >= self._most_visits
        if self._is_overrun:
            return False
        self._site = site
        if has_own_action:
            action = self._site_actions.get(site.name, action)
        self._is_captured = action is not Action.COMPUTE
        self.met[kind] += 1
        if action is not Action.REUSE:
            self._present = self._nothing
            return False
        self._present = [None if bank is None else bank.captures.get(site) for bank in self._banks]
        self._handout = gather(self._present, tokens)
        if self._handout is None:
            if kind == CROSS_ATTENTION and self._on_lost_text is not None:
                self.has_misfit = self.has_misfit or any(self._present)
                self._on_lost_text()
                self._site = None
            return False
        self.skipped[kind] += 1
        return True

    def refuse(self, kind: AttentionKind) -> None:
        """An attention is computed as usual: what goes in has not the form that its architecture states."""
        self.has_misfit = True
        if kind == CROSS_ATTENTION and self._on_lost_text is not None:
            self._on_lost_text()

    def _next_site(self, kind: AttentionKind, block: Hashable, block_index: int) -> Site:
        """The site of these names that the network has come to now."""
        first = Site(kind, block, block_index, 0)
        visits = self._visits.get(first, 0)
        self._visits[first] = visits + 1
        return first if visits == 0 else first._replace(nth=visits)

    def leave(self, kind: AttentionKind, tokens: Tensor) -> Tensor:
        """After an attention and everything that other nodes do to its output; returns what the residual gets.

        Args:
            kind: self- or cross-attention.
            tokens: the output so far, (conds * B, tokens, channels); meaningless where the attention was skipped.
        """
        site, self._site = self._site, None
        handout, self._handout = self._handout, None
        if site is None or site.kind != kind:
            return tokens
        if handout is not None:
            tokens = handout
        elif self._is_captured and tokens.shape[0] % len(self._keys):
            self.has_misfit = True
        elif self._is_captured:
            tokens = self._capture(site, tokens)
        if self._observer is not None:
            self._observer(site, tokens)
        return tokens

    def _capture(self, site: Site, tokens: Tensor) -> Tensor:
        """Capture the conds that have no capture; the others get theirs, as if they had been in a call of their own."""
        if self._present is self._nothing:
            self._cache.store(self._keys, site, tokens, self._now)
            return tokens
        chunks = tokens.chunk(len(self._keys))
        reused = [gather([capture], chunk) for capture, chunk in zip(self._present, chunks, strict=True)]
        missing = [key if reuse is None else None for key, reuse in zip(self._keys, reused, strict=True)]
        unused = (capture for capture, reuse in zip(self._present, reused, strict=True) if reuse is None)
        self.has_misfit = self.has_misfit or any(capture is not None for capture in unused)
        self._present = self._nothing
        self._cache.store(missing, site, tokens, self._now)
        if all(reuse is None for reuse in reused):
            return tokens
        return torch.cat([chunk if reuse is None else reuse for chunk, reuse in zip(chunks, reused, strict=True)])
