"""What is known of a sampling run once it is over, and where a node finds it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..engine.counts import CallShape, RunCounts
from ..engine.identity import Fingerprint
from .timeline import StepCell

# Runs that a model remembers: a graph rarely has more samplers than that on one.
REMEMBERED_RUNS = 8


@dataclass(frozen=True)
class RunRecord:
    """A run that is over.

    Attributes:
        family: preset family of the model, or its scope if that is not all.
        counts: as they were at the end.
        cells: what each step did.
        gate_step: first step of the fidelity phase; number of steps without one.
        shallow_steps: steps that were to leave out the deep blocks.
        is_plain: whether the whole run was left as it is.
        seconds: how long it took, without loading the model.
        was_interrupted: whether it ended before its last step, by the user or an error.
        fingerprint: of the latent that came out; None where none did.
        call_templates: arguments of one network call of each shape, without their values.
    """

    family: str
    counts: RunCounts
    cells: tuple[StepCell, ...]
    gate_step: int
    shallow_steps: int
    is_plain: bool
    seconds: float
    was_interrupted: bool = False
    fingerprint: Fingerprint | None = None
    call_templates: Mapping[CallShape, Any] = field(default_factory=dict)

    @property
    def has_gate(self) -> bool:
        """Whether the gate lies within the run."""
        return self.gate_step < self.counts.steps


@dataclass(frozen=True)
class Remembered:
    """What the editor that queued a run sent with it.

    Attributes:
        is_logged: whether the log is to have a line on the run.
        plain_seconds: how long the same graph took with the node bypassed; None where that is not known.
    """

    is_logged: bool = True
    plain_seconds: float | None = None


@dataclass(frozen=True)
class Listener:
    """Who is told of a model's runs.

    Attributes:
        hear: called with each run that ends.
        remembered: called when a run begins.
    """

    hear: Callable[[RunRecord], None]
    remembered: Callable[[], Remembered] = Remembered


@dataclass
class RunRecords:
    """The last runs of a model, newest first, for nodes that come after the sampler.

    Attributes:
        family: preset family of the model, or its scope if that is not all.
        listener: told of each run; None if there is no listener.
    """

    family: str
    listener: Listener | None = None
    _recent: deque[RunRecord] = field(default_factory=lambda: deque(maxlen=REMEMBERED_RUNS))

    def add(self, record: RunRecord) -> None:
        """A run is over."""
        self._recent.appendleft(record)
        if self.listener is not None:
            self.listener.hear(record)

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
