"""One call of the network: which attention outputs it reuses, which it captures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

from torch import Tensor

from .actions import CROSS_ATTENTION, Action, AttentionKind
from .cache import Capture, CaptureCache, Form, Site, form_together, gather
from .identity import BankKey
from .reasons import MISFIT, UNREACHED
from .technique import BatchPlan

Observer = Callable[[Site, Tensor], None]


class DepthCall(Protocol):
    """The part of a call that a technique has which leaves out deep blocks."""

    keys: Sequence[BankKey]
    is_shallow: bool
    has_reused: bool
    has_run_again: bool

    def other_run(self) -> AbstractContextManager[None]:
        """See `ForwardCall.other_run`."""


class ForwardCall:
    """A network call, from the first attention to the last; made for it and dropped with it.

    Asked twice at each site: `reuse` before an attention, `capture` behind one that ran. Everything that needs a
    decision was decided before; a site costs a few dictionary look-ups and no synchronisation.
    """

    def __init__(
        self,
        model: Any = None,
        plan: BatchPlan | None = None,
        cache: CaptureCache | None = None,
        bank_keys: Sequence[BankKey | None] = (),
        now: int = 0,
        on_anchor_miss: Callable[[], None] | None = None,
        visits: int = 1,
    ) -> None:
        """
        Args:
            model: the host's model that is called; attentions of another one are not part of the call.
            plan: of the pass that it belongs to; None outside of main passes.
            cache: the run's captures; None where everything is computed as usual.
            bank_keys: bank of each cond in the batch, in order (conds are outermost in the batch dimension); None for a
                cond whose captures are not kept.
            now: the cache's time of use.
            on_anchor_miss: given where one branch runs on merged captures: a cross-attention that has to be computed
                would then see the wrong text, so it is reported and not captured.
            visits: how often the network comes to attentions of the same names when it runs once.
        """
        self.model = model
        self.plan = plan
        # Who is told what each attention gives to the residual, (conds * B, tokens, channels).
        self.observers: list[Observer] = []
        self.depth: DepthCall | None = None
        # What another node is about to hand to the network, and whether anything of the network was run.
        self.network_input: Any = None
        self.has_run = False
        # Output to use in place of the next attention; set between the patches around a module.
        self.pending: Tensor | None = None
        # Attentions of each kind that this call had a say in, and those of them that were reused.
        self.met: Counter[AttentionKind] = Counter()
        self.reused: Counter[AttentionKind] = Counter()
        # Attentions that ran, of whatever kind.
        self.computed = 0
        # Whether it may capture or reuse anything now; else everything is computed as usual.
        self.is_active = cache is not None and plan is not None
        # Whether an output had another form than its capture, or none that can be captured.
        self.has_misfit = False
        self._cache = cache
        self._keys = bank_keys
        self._banks = [None if key is None or cache is None else cache.bank(key, now) for key in bank_keys]
        self._now = now
        self._on_anchor_miss = on_anchor_miss
        self._most_visits = visits
        # How often the network came to attentions of the same names, by the first of them.
        self._visits: dict[Site, int] = {}
        self._is_overrun = False
        self._site: Site | None = None
        self._is_captured = False
        self._nothing: list[Capture | None] = [None] * len(bank_keys)
        self._present = self._nothing

    @property
    def is_shallow(self) -> bool:
        """Whether the deep blocks are left out."""
        return self.depth is not None and self.depth.is_shallow

    @property
    def has_reused(self) -> bool:
        """Whether any capture was reused so far."""
        return self.reused.total() > 0 or (self.depth is not None and self.depth.has_reused)

    @property
    def has_run_again(self) -> bool:
        """Whether the network came to a place more often than it does when it runs once.

        Then another node runs the network again on something unknown: a capture may belong to either run.
        """
        return self._is_overrun or (self.depth is not None and self.depth.has_run_again)

    @property
    def reasons(self) -> Iterator[str]:
        """Why this call, once it is over, computed what it was to capture or reuse."""
        if self.has_misfit:
            yield MISFIT
        if self._cache is None or self.plan is None:
            return
        is_asked_for = any(action is not Action.COMPUTE for action in self.plan.actions.values())
        # The shallow blocks of some networks hold no attention.
        if (is_asked_for or self.observers) and not self.met.total() and not self.is_shallow:
            yield UNREACHED

    def refuse(self, kind: AttentionKind) -> None:
        """An attention is computed as usual: its input has not the form that its architecture states."""
        self.has_misfit = True
        if kind == CROSS_ATTENTION and self._on_anchor_miss is not None:
            self._on_anchor_miss()

    @contextmanager
    def other_run(self) -> Iterator[None]:
        """While another node runs the network on something else within this call: that is computed as usual."""
        before, self.is_active = self.is_active, False
        try:
            with nullcontext() if self.depth is None else self.depth.other_run():
                yield
        finally:
            self.is_active = before

    def forget(self) -> None:
        """Give up everything that is captured for the conds of this call."""
        for key in (*self._keys, *(self.depth.keys if self.depth is not None else ())):
            if key is not None and self._cache is not None:
                self._cache.drop(key)

    def form_ahead(self, site: Site) -> Form | None:
        """Form of what `reuse` will give at a site, known before the network runs; None where that is not sure."""
        return form_together([None if bank is None else bank.captures.get(site) for bank in self._banks])

    def take_back(self, kind: AttentionKind, is_misfit: bool) -> None:
        """What `reuse` gave ahead was not used: the attention came in another form, or was not reached at all."""
        self.reused[kind] -= 1
        if is_misfit:
            self.refuse(kind)
        else:
            self.met[kind] -= 1

    def note_another_run(self) -> None:
        """The network came to an attention more often than it does when it runs once, see `has_run_again`."""
        self._is_overrun, self.is_active = True, False

    def reuse(self, kind: AttentionKind, block: Hashable, block_index: int, like: Tensor | Form) -> Tensor | None:
        """Before an attention: what takes its output's place, like `like`; None where it has to be computed.

        Args:
            kind: self- or cross-attention.
            block: the host's name of the block.
            block_index: the host's index within the block.
            like: input of the attention, (conds * B, tokens, channels); its output has the same shape.
        """
        self._site = None
        if not self.is_active or self.plan is None:
            return None
        action = self.plan.actions[kind]
        has_own_actions = bool(self.plan.site_actions) and kind == CROSS_ATTENTION
        if action is Action.COMPUTE and not self.observers and not has_own_actions:
            return None
        site = self._next_site(kind, block, block_index)
        if self._is_overrun:
            return None
        if has_own_actions:
            action = self.plan.site_actions.get(site.name, action)
        self.met[kind] += 1
        self._site, self._present, self._is_captured = site, self._nothing, action is not Action.COMPUTE
        return self._reuse(kind, site, like) if action is Action.REUSE else None

    def _next_site(self, kind: AttentionKind, block: Hashable, block_index: int) -> Site:
        """The site of these names that the network has come to now; one visit too many ends all reuse in this call."""
        first = Site(kind, block, block_index, 0)
        visits = self._visits.get(first, 0)
        self._visits[first] = visits + 1
        if visits >= self._most_visits:
            self.note_another_run()
        return first if visits == 0 else first._replace(nth=visits)

    def _reuse(self, kind: AttentionKind, site: Site, like: Tensor | Form) -> Tensor | None:
        self._present = [None if bank is None else bank.captures.get(site) for bank in self._banks]
        reused = gather(self._present, like)
        if reused is not None:
            self._site = None
            self.reused[kind] += 1
            if self.observers:
                self._tell(site, reused)
        elif kind == CROSS_ATTENTION and self._on_anchor_miss is not None:
            self.has_misfit = self.has_misfit or any(self._present)
            self._on_anchor_miss()
            self._site = None
        return reused

    def capture(self, kind: AttentionKind, tokens: Tensor) -> Tensor:
        """Behind an attention that ran, and all that other nodes do to its output; returns what the residual gets.

        Args:
            kind: self- or cross-attention.
            tokens: the output, (conds * B, tokens, channels).
        """
        site, self._site = self._site, None
        if site is None or site.kind != kind:
            return tokens
        if self._is_captured and self._cache is not None:
            tokens = self._store(self._cache, site, tokens)
        if self.observers:
            self._tell(site, tokens)
        return tokens

    def _store(self, cache: CaptureCache, site: Site, tokens: Tensor) -> Tensor:
        if tokens.shape[0] % len(self._keys):
            self.has_misfit = True
            return tokens
        if self._present is self._nothing:
            cache.store(self._keys, site, tokens, self._now)
            return tokens
        given, is_fitting = cache.store_missing(self._keys, site, tokens, self._present, self._now)
        self.has_misfit = self.has_misfit or not is_fitting
        return given

    def _tell(self, site: Site, tokens: Tensor) -> None:
        for observe in self.observers:
            observe(site, tokens)
