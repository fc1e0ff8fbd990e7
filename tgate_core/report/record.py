"""What is known of a sampling run once it is over, and where a node finds it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from ..engine.counts import CallShape, RunCounts
from .timeline import StepCell

# Runs that a model remembers: a graph rarely has more samplers than that on one.
REMEMBERED_RUNS = 8
# Values by which a latent is recognised, as far as a move to half precision leaves them.
SAMPLED_VALUES = 64
RELATIVE_TOLERANCE = 1e-2


class Fingerprint(NamedTuple):
    """Identifies a latent: its shape, and values spread over all of it."""

    shape: tuple[int, ...]
    values: tuple[float, ...]

    @classmethod
    def of(cls, latent: Tensor) -> Fingerprint:
        """The fingerprint of a latent, (B, C, …); several latents in one count as the first of them."""
        if latent.is_nested:
            latent = latent.unbind()[0]
        flat = latent.detach().flatten()
        spread = flat[:: max(1, flat.numel() // SAMPLED_VALUES)]
        return cls(tuple(latent.shape), tuple(spread.float().tolist()))

    def matches(self, other: Fingerprint) -> bool:
        """Whether both are of the same latent, up to its precision."""
        if self.shape != other.shape:
            return False
        largest = max((abs(value) for value in self.values if math.isfinite(value)), default=0.0)
        tolerance = RELATIVE_TOLERANCE * largest
        return all(
            one == two or abs(one - two) <= tolerance or (math.isnan(one) and math.isnan(two))
            for one, two in zip(self.values, other.values, strict=True)
        )


@dataclass(frozen=True)
class RunRecord:
    """A run that is over.

    Attributes:
        family: preset family of the model.
        counts: as they were at the end.
        cells: what each step did.
        gate_step: first step of the fidelity phase; number of steps without one.
        is_plain: whether the whole run was left as it is.
        seconds: how long it took.
        was_interrupted: whether it ended before its last step, by the user or an error.
        fingerprint: of the latent that came out; None where none did.
        call_templates: arguments of one network call of each shape, without their values.
    """

    family: str
    counts: RunCounts
    cells: tuple[StepCell, ...]
    gate_step: int
    is_plain: bool
    seconds: float
    was_interrupted: bool = False
    fingerprint: Fingerprint | None = None
    call_templates: Mapping[CallShape, Any] = field(default_factory=dict)

    @property
    def has_gate(self) -> bool:
        """Whether the gate lies within the run."""
        return self.gate_step < self.counts.steps


@dataclass
class RunRecords:
    """The last runs of a model, newest first, for nodes that come after the sampler.

    Attributes:
        family: preset family of the model.
        listener: told of each run that ends; None if there is no listener.
    """

    family: str
    listener: Callable[[RunRecord], None] | None = None
    _recent: deque[RunRecord] = field(default_factory=lambda: deque(maxlen=REMEMBERED_RUNS))

    def add(self, record: RunRecord) -> None:
        """A run is over."""
        self._recent.appendleft(record)
        if self.listener is not None:
            self.listener(record)

    def find(self, latent: Tensor) -> RunRecord | None:
        """The run that made this latent, (B, C, …); None where none of those remembered did."""
        wanted = Fingerprint.of(latent)
        return next(
            (one for one in self._recent if one.fingerprint is not None and one.fingerprint.matches(wanted)), None
        )

    @property
    def last(self) -> RunRecord | None:
        """The run that ended last."""
        return self._recent[0] if self._recent else None
