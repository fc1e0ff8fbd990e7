"""What was captured, attention outputs above all: where it lives, when it may be reused, how branches are merged."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from .actions import AttentionKind, CaptureKind
from .identity import BankKey, Place
from .storage import detached, widened, writable


class Site(NamedTuple):
    """One attention module at one place of the network; `nth` tells apart modules that share the host's ids."""

    kind: CaptureKind
    block: Hashable
    block_index: int
    nth: int

    @property
    def name(self) -> str:
        """A name that means the same in every run of a network, as in `input.4.0` or `blocks.3.cross_attn`."""
        block = self.block
        if isinstance(block, tuple):  # of a UNet: the host's slot of the attention, and its own name of the block
            _, where = block
            name = ".".join(str(part) for part in where) if isinstance(where, tuple) else str(where)
            block = f"{name}.{self.block_index}"
        return f"{block}.{self.nth}" if self.nth else str(block)


@dataclass(frozen=True)
class Capture:
    """The output of one attention site for one cond, shape (B, tokens, channels); or a deep feature, (B, C, H, W).

    It is chunk `index` of the `count` equal chunks of `base` along dim 0: conds that were evaluated in one call share
    one tensor, so that reusing them together needs no copy.
    """

    base: Tensor
    index: int
    count: int
    device: torch.device

    @property
    def tokens(self) -> Tensor:
        """The capture itself, (B, tokens, channels), a view of `base`."""
        return self.base.chunk(self.count)[self.index]

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """Shape of `tokens`."""
        return (self.base.shape[0] // self.count, *self.base.shape[1:])

    @property
    def nbytes(self) -> int:
        """Bytes of `tokens`."""
        return self.base.numel() // self.count * self.base.element_size()


@dataclass
class Bank:
    """All captures of one cond at one place of the run."""

    captures: dict[Site, Capture] = field(default_factory=dict)
    last_used: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all captures."""
        return sum(capture.nbytes for capture in self.captures.values())


class Form(NamedTuple):
    """What a tensor has to have in common with another to stand in for it."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


def form_together(captures: Sequence[Capture | None]) -> Form | None:
    """Form of the attention output that captures of a call's conds, in order, make together.

    None where one is missing, differs from the others, or is not on the device that it was made on.
    """
    first = captures[0] if captures else None
    if first is None or first.base.device != first.device:
        return None
    rows, *size = first.chunk_shape
    form = Form((rows * len(captures), *size), first.base.dtype, first.device)
    is_held = all(one is not None and one.base.device == form.device for one in captures)
    return form if is_held and all(_fits(one, form, len(captures)) for one in captures if one is not None) else None


def gather(captures: Sequence[Capture | None], like: Tensor | Form) -> Tensor | None:
    """Put captures of a call's conds together as one attention output, or None where one is missing or does not fit.

    Args:
        captures: one capture a cond, in the order of the call.
        like: what the attention is given now, (conds * B, tokens, channels); its output has the same shape.
    """
    first = captures[0]
    if first is not None and _are_all_of(first, captures):  # as in nearly every call: there is nothing to put together
        base = first.base
        if base.shape != like.shape or base.dtype != like.dtype or first.device != like.device:
            return None
        if base.device != like.device:
            return base.to(like.device, non_blocking=True)
        return writable(base) if base.is_inference() else base
    fitting = [capture for capture in captures if capture is not None and _fits(capture, like, len(captures))]
    if len(fitting) < len(captures):
        return None
    # Each on its own way to the device: put together before, they would not be in pinned memory and have to be awaited.
    chunks = [capture.tokens.to(like.device, non_blocking=True) for capture in fitting]
    return writable(chunks[0]) if len(chunks) == 1 else torch.cat(chunks)


def _are_all_of(first: Capture, captures: Sequence[Capture | None]) -> bool:
    """Whether these are all chunks of one tensor, in order."""
    if first.count != len(captures):
        return False
    for index, capture in enumerate(captures):
        if capture is None or capture.base is not first.base or capture.index != index:
            return False
    return True


def _fits(capture: Capture, like: Tensor | Form, conds: int) -> bool:
    expected = (like.shape[0] // conds, *like.shape[1:])
    is_alike = capture.base.dtype == like.dtype and capture.device == like.device
    return is_alike and like.shape[0] % conds == 0 and capture.chunk_shape == expected


class CaptureCache:
    """The captures of one sampling run, in banks by key. Nothing here outlives the run."""

    def __init__(self, store: Callable[[Tensor], Tensor], limit_bytes: int = 0) -> None:
        """
        Args:
            store: decides where captures live: given a tensor on the model's device, returns what to store.
            limit_bytes: most bytes held at once, 0 for no limit; what would not fit is not captured.
        """
        self._store = store
        self._limit_bytes = limit_bytes
        self._banks: dict[BankKey, Bank] = {}
        self.has_refused = False
        self.nbytes = 0
        self.peak_bytes = 0

    def bank(self, key: BankKey, now: int) -> Bank | None:
        """The bank of `key`, marked as used at time `now`; None when there is none."""
        bank = self._banks.get(key)
        if bank is not None:
            bank.last_used = now
        return bank

    def parts(self, place: Place, owner: Hashable) -> list[Hashable]:
        """The parts of which `owner` has captures at `place`."""
        return [key.part for key in self._banks if key.place == place and key.owner == owner]

    def holds(self, place: Place, owner: Hashable, kind: AttentionKind) -> bool:
        """Whether `owner` has any capture of one kind of attention at `place`."""
        banks = [bank for key, bank in self._banks.items() if key.place == place and key.owner == owner]
        return any(site.kind == kind for bank in banks for site in bank.captures)

    def store(self, keys: Sequence[BankKey | None], site: Site, tokens: Tensor, now: int) -> None:
        """Capture an attention output, one chunk a key.

        Args:
            keys: bank key of each cond of the call, in order; None for one that is not kept.
            site: where `tokens` was computed.
            tokens: attention output, (len(keys) * B, tokens, channels).
            now: time of use, see `forget_unused`.
        """
        tokens = detached(tokens)
        kept = [key for key in keys if key is not None]
        self._forget_site(kept, site)
        if not kept or not self._has_room_for(tokens, len(kept) / len(keys)):
            return
        if len(kept) == len(keys):
            base = self._store(tokens)
            for index, kept_key in enumerate(kept):
                self._put(kept_key, site, Capture(base, index, len(keys), tokens.device), now)
            return
        for key, chunk in zip(keys, tokens.chunk(len(keys)), strict=True):
            if key is not None:  # copied, or the rest of the tensor would stay in memory with it
                self._put(key, site, Capture(self._store(chunk.clone()), 0, 1, tokens.device), now)

    def store_missing(
        self, keys: Sequence[BankKey | None], site: Site, tokens: Tensor, present: Sequence[Capture | None], now: int
    ) -> tuple[Tensor, bool]:
        """Capture the conds of a call that have no capture; the others' captures take the place of what was computed.

        So that it does not show whether conds came in one call, or in calls of their own that differ in this.

        Args:
            keys, site, tokens, now: as for `store`.
            present: capture of each cond, None where there is none.

        Returns:
            What the call goes on with, shape of `tokens`; and whether all captures that there were did fit.
        """
        chunks = tokens.chunk(len(keys))
        reused = [gather([capture], chunk) for capture, chunk in zip(present, chunks, strict=True)]
        self.store([key if one is None else None for key, one in zip(keys, reused, strict=True)], site, tokens, now)
        is_fitting = all(one is not None or capture is None for one, capture in zip(reused, present, strict=True))
        if all(one is None for one in reused):
            return tokens, is_fitting
        together = [chunk if one is None else one for chunk, one in zip(chunks, reused, strict=True)]
        return torch.cat(together), is_fitting

    def merge(self, first: BankKey, second: BankKey, into: BankKey, now: int) -> bool:
        """Replace two banks by their mean (the anchor of the fidelity-improving phase), where both are there.

        Returns False, and leaves both as they are, where they do not fit together site by site. Goes site by site, so
        that both originals are never held beside the whole mean.
        """
        ours, theirs = self._banks.get(first), self._banks.get(second)
        if ours is None or theirs is None:
            return True
        if not _can_average(ours, theirs):
            return False
        self.drop(into)
        for site in tuple(ours.captures):
            mean = self._average(ours.captures[site], theirs.captures[site])
            self._take(ours, site)
            self._take(theirs, site)
            self._put(into, site, mean, now)
        self.drop(first)
        self.drop(second)
        return True

    def release(self, kind: CaptureKind) -> None:
        """Drop all captures of one kind."""
        for bank in self._banks.values():
            for site in [site for site in bank.captures if site.kind == kind]:
                self._take(bank, site)
        for key in [key for key, bank in self._banks.items() if not bank.captures]:
            del self._banks[key]

    def forget_unused(self, since: int) -> None:
        """Drop banks not used since time `since`: windows that moved on, conds whose timestep range has ended."""
        for key in [key for key, bank in self._banks.items() if bank.last_used < since]:
            self.drop(key)

    def drop(self, key: BankKey) -> None:
        """Drop one bank, if there."""
        bank = self._banks.pop(key, None)
        if bank is not None:
            self.nbytes -= bank.nbytes

    def clear(self) -> None:
        """Drop everything."""
        self._banks.clear()
        self.nbytes = 0

    def _forget_site(self, keys: Sequence[BankKey], site: Site) -> None:
        """Drop what is about to be captured anew: it needs no room beside its successor."""
        for key in keys:
            if key in self._banks:
                self._take(self._banks[key], site)

    def _has_room_for(self, tokens: Tensor, share: float) -> bool:
        needed = tokens.numel() * tokens.element_size() * share
        has_room = not self._limit_bytes or self.nbytes + needed <= self._limit_bytes
        self.has_refused = self.has_refused or not has_room
        return has_room

    def _put(self, key: BankKey, site: Site, capture: Capture, now: int) -> None:
        bank = self._banks.setdefault(key, Bank())
        bank.last_used = now
        bank.captures[site] = capture
        self.nbytes += capture.nbytes
        self.peak_bytes = max(self.peak_bytes, self.nbytes)

    def _take(self, bank: Bank, site: Site) -> Capture | None:
        capture = bank.captures.pop(site, None)
        if capture is not None:
            self.nbytes -= capture.nbytes
        return capture

    def _average(self, one: Capture, other: Capture) -> Capture:
        # On the model's device: a capture kept elsewhere may still be on its way there.
        tokens = average(one.tokens.to(one.device), other.tokens.to(one.device))
        return Capture(self._store(tokens), 0, 1, one.device)


def average(uncond: Tensor, cond: Tensor) -> Tensor:
    """Mean of the two branches' attention outputs, each (B, tokens, channels): the anchor of arXiv 2404.02747."""
    return ((widened(uncond) + cond) / 2).to(uncond.dtype)


def _can_average(ours: Bank, theirs: Bank) -> bool:
    pairs = [(capture, theirs.captures.get(site)) for site, capture in ours.captures.items()]
    return len(ours.captures) == len(theirs.captures) and all(
        other is not None and one.chunk_shape == other.chunk_shape and one.base.dtype == other.base.dtype
        for one, other in pairs
    )
