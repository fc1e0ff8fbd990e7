"""What is known of a sampling run once it is over, and where a node finds it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from .branches import CACHE_FULL
from .reasons import (
    CACHE_LIMIT,
    EXTRA_PASS,
    NO_CALL,
    NO_FEATURE_AGAIN,
    NO_GUIDANCE,
    NO_PASS,
    NO_SHALLOW_STEP,
    NOT_MEASURED,
    NOTHING_AGAIN,
    NOTHING_BEFORE,
)
from .schedule import CROSS_ATTENTION, SELF_ATTENTION, Phase, Schedule
from .statistics import RunStatistics
from .tally import CallShape, StepTally
from .timeline import StepCell

# Runs that a model remembers: a graph rarely has more samplers than that on one.
REMEMBERED_RUNS = 8
# A latent is known again by this many of its values, as far as a move to half precision leaves them.
SAMPLED_VALUES = 64
RELATIVE_TOLERANCE = 1e-2


class Fingerprint(NamedTuple):
    """What a latent is known again by: its shape, and values spread over all of it."""

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
        statistics: its counts, as they were at the end.
        cells: what each step did.
        is_plain: whether T-GATE left the whole run alone.
        seconds: how long it took.
        was_interrupted: whether it ended before its last step, by the user or an error.
        fingerprint: of the latent that came out; None where none did.
        call_templates: arguments of one network call of each shape, without their values.
    """

    family: str
    statistics: RunStatistics
    cells: tuple[StepCell, ...]
    is_plain: bool
    seconds: float
    was_interrupted: bool = False
    fingerprint: Fingerprint | None = None
    call_templates: Mapping[CallShape, Any] = field(default_factory=dict)

    def summary(self) -> str:
        """One line: what was saved, and why not where it was not."""
        if not self.is_plain:
            return self.statistics.summary()
        reasons = "; ".join(self.statistics.notes)
        return f"nothing is changed in this run: {reasons}" if reasons else "nothing is changed in this run"


@dataclass
class RunRecords:
    """The last runs of a model, newest first, for nodes that come after the sampler.

    Attributes:
        family: preset family of the model.
        listener: told of each run that ends; None where nobody listens.
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


def closing_reasons(
    cells: Sequence[StepCell], schedule: Schedule, statistics: RunStatistics, has_refused: bool
) -> list[str]:
    """Why a run saved less than was planned, as far as that shows once it is over.

    Args:
        cells: what its steps did.
        schedule: what was planned.
        statistics: its counts.
        has_refused: whether captures found no room.
    """
    if not statistics.passes and not statistics.auxiliary_passes:
        return [NO_PASS]
    if not statistics.model_calls:
        return [NO_CALL]
    if has_refused and CACHE_FULL not in statistics.notes:
        return [CACHE_LIMIT]
    beside = {EXTRA_PASS, NO_SHALLOW_STEP, NOT_MEASURED} | ({NO_GUIDANCE} if schedule.saves_attention else set())
    if not beside.issuperset(statistics.notes):
        return []  # said already
    reasons = []
    gated = [step for step, cell in enumerate(cells) if cell.has_run and cell.phase is Phase.FIDELITY]
    unsaved = [step for step in gated if not statistics.has_saved_in(step)]
    if unsaved:
        reasons.append(NOTHING_BEFORE if unsaved == gated[:1] != gated else NOTHING_AGAIN)
    if statistics.shallow_steps and not statistics.shallow_calls:
        reasons.append(NO_FEATURE_AGAIN)
    return reasons


def happened_cells(schedule: Schedule, tallies: Mapping[int, StepTally]) -> tuple[StepCell, ...]:
    """What the steps of a run did; some samplers leave steps out, and an interrupted run never came to its last."""

    def cell(step: int) -> StepCell:
        tally = tallies.get(step, StepTally())
        calls = max(1, tally.calls)
        return StepCell(
            phase=schedule.steps[step].phase,
            self_reused=tally.reused[SELF_ATTENTION] / calls,
            cross_reused=tally.reused[CROSS_ATTENTION] / calls,
            is_guided=tally.full_passes > tally.dropped_passes,
            is_shallow=tally.shallow_calls * 2 > calls,
            has_run=tally.calls > 0,
        )

    return tuple(cell(step) for step in range(len(schedule.steps)))
