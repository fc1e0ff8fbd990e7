"""Measuring how attention settles while a run goes on, without touching it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..engine.actions import ATTENTION_KINDS, AttentionKind
from ..engine.cache import Site
from ..engine.identity import BankKey
from ..engine.location import SMALLEST_NORM
from ..engine.storage import detached, widened
from .profile import ConvergenceProfile, mean_of


class Measurement:
    """Of one run: made when it starts, dropped when it ends. Nothing waits for the device until `profile`."""

    def __init__(self, sigmas: Sequence[float], store: Callable[[Tensor], Tensor]) -> None:
        """
        Args:
            sigmas: the run's N + 1 noise levels.
            store: decides where outputs live until the next step, see `CaptureStorage`.
        """
        self._sigmas = tuple(sigmas[:-1])
        self._store = store
        self._last: dict[Hashable, tuple[int, Tensor]] = {}
        self._changes: defaultdict[tuple[AttentionKind, str, int], list[Tensor]] = defaultdict(list)
        self._cosines: defaultdict[int, list[Tensor]] = defaultdict(list)
        self._failure: Exception | None = None

    def note_output(self, step: int, site: Site, keys: Sequence[BankKey], tokens: Tensor) -> None:
        """An attention gave its output.

        Args:
            step: of the run.
            site: the attention.
            keys: what tells the conds of the call apart, in order.
            tokens: the output, (len(keys) * B, tokens, channels).
        """
        self._attempt(self._compare, step, site, keys, tokens)

    def note_predictions(self, step: int, x: Tensor, cond: Tensor, uncond: Tensor) -> None:
        """Both branches gave their denoised predictions, (B, C, …), of the noisy latent `x`."""
        self._attempt(self._compare_branches, step, x, cond, uncond)

    def _attempt(self, note: Callable[..., None], *args: Any) -> None:
        """Measure, unless that failed before: the run goes on without, and `profile` tells."""
        if self._failure is not None:
            return
        try:
            note(*args)
        except Exception as error:
            self._failure = error.with_traceback(None)  # which would keep alive what memory ran out for
            self._last.clear()

    def _compare(self, step: int, site: Site, keys: Sequence[BankKey], tokens: Tensor) -> None:
        if site.kind not in ATTENTION_KINDS or tokens.shape[0] % len(keys):
            return
        for key, chunk in zip(keys, tokens.detach().chunk(len(keys)), strict=True):
            before = self._last.get((key, site))
            if before is not None and before[0] == step:
                continue  # a pass that was repeated
            if before is not None and before[1].shape == chunk.shape:
                self._changes[site.kind, site.name, step].append(relative_change(before[1].to(chunk.device), chunk))
            self._last[key, site] = (step, self._store(chunk))

    def _compare_branches(self, step: int, x: Tensor, cond: Tensor, uncond: Tensor) -> None:
        ours, theirs = ((widened(detached(x)) - detached(branch)).flatten(1) for branch in (cond, uncond))
        self._cosines[step].append(torch.cosine_similarity(ours, theirs, dim=1).mean())

    def profile(self, network: str, signature: str) -> ConvergenceProfile:
        """What was measured; waits for the device, once.

        Raises:
            Exception: whatever went wrong while it was measured.
        """
        if self._failure is not None:
            raise self._failure
        steps = range(len(self._sigmas))
        changes = dict(zip(self._changes, _means(list(self._changes.values())), strict=True))
        cosines = dict(zip(self._cosines, _means(list(self._cosines.values())), strict=True))
        names = {kind: dict.fromkeys(name for of, name, _ in self._changes if of == kind) for kind in ATTENTION_KINDS}
        return ConvergenceProfile(
            network=network,
            signature=signature,
            sigmas=self._sigmas,
            changes={
                kind: {name: tuple(changes.get((kind, name, step), math.nan) for step in steps) for name in names[kind]}
                for kind in ATTENTION_KINDS
            },
            cosines=tuple(cosines.get(step, math.nan) for step in steps),
        )


def relative_change(before: Tensor, now: Tensor) -> Tensor:
    """Norm of the difference over the norm of what was before, without dimensions."""
    first = before.float()
    norm = torch.linalg.vector_norm(first).clamp_min(SMALLEST_NORM)
    change: Tensor = torch.linalg.vector_norm(now.float() - first) / norm
    return change


def _means(groups: Sequence[Sequence[Tensor]]) -> list[float]:
    """Mean of each group of single values; one transfer for all of them."""
    if not groups:
        return []
    device = groups[0][0].device
    values = iter(torch.stack([value.to(device) for group in groups for value in group]).tolist())
    return [mean_of([next(values) for _ in group]) for group in groups]
