"""How attention settles over a run, as measured, and the gate that follows from it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..engine.actions import CROSS_ATTENTION, SELF_ATTENTION, AttentionKind
from ..engine.identity import Fingerprint
from ..engine.steps import step_tolerance

PERCENT = 100.0


@dataclass(frozen=True)
class ConvergenceProfile:
    """What a probe measured in one sampling run of N steps.

    Attributes:
        network: class of the network.
        signature: what tells networks of that class apart, see `network_signature`.
        sigmas: noise level at which each step begins, N values.
        changes: per kind of attention and site, the relative change of its output from the step before, N values
            (arXiv 2404.02747, figure 2); not a number where there is none: in step 0, and in steps left out.
        cosines: cosine between the noise predictions of cond and uncond, N values; not a number without guidance.
    """

    network: str
    signature: str
    sigmas: tuple[float, ...]
    changes: Mapping[AttentionKind, Mapping[str, tuple[float, ...]]]
    cosines: tuple[float, ...]

    @property
    def steps(self) -> int:
        """Number of steps N."""
        return len(self.sigmas)

    @property
    def gated_kind(self) -> AttentionKind:
        """The kind of attention that a gate follows from: cross-attention, or where there is none joint attention."""
        return CROSS_ATTENTION if self.changes[CROSS_ATTENTION] else SELF_ATTENTION

    @property
    def gated_name(self) -> str:
        """What people call that kind."""
        return "cross-attention" if self.gated_kind == CROSS_ATTENTION else "joint attention"

    def mean(self, kind: AttentionKind) -> tuple[float, ...]:
        """Change averaged over all sites of a kind, N values."""
        columns = zip(*self.changes[kind].values(), strict=True)
        return tuple(mean_of(column) for column in columns) or (math.nan,) * self.steps

    def gate_step(self, tolerance: float) -> int:
        """First step from which cross-attention, on average, may be frozen; N where it never settles.

        Of joint attention, which is not frozen, the first from which it changes as little.

        Args:
            tolerance: most relative change from a step to the next that counts as settled, percent.
        """
        return settled_from(self.mean(self.gated_kind), tolerance)

    def site_gate_steps(self, tolerance: float) -> dict[str, int]:
        """The same for each of these attentions on its own."""
        return {site: settled_from(values, tolerance) for site, values in self.changes[self.gated_kind].items()}

    def step_in(self, sigmas: Sequence[float], step: int) -> int:
        """The step of another run that corresponds to `step` of this one: the first at its noise level or below.

        Args:
            sigmas: the other run's N + 1 noise levels.
            step: a step of this run; N or more is beyond the other run too.
        """
        steps = len(sigmas) - 1
        if step >= self.steps:
            return steps
        level = self.sigmas[step]
        fitting = (index for index in range(steps) if sigmas[index] <= level + step_tolerance(sigmas, index))
        # What is frozen was captured in a step before.
        return max(1, next(fitting, steps))


@dataclass
class Probe:
    """What the nodes pass on.

    Attributes:
        profile: the measurement; None until there is one.
        is_live: whether each run of a model measures into this probe again. For a node that does not wait for the
            current run, it then holds the previous one.
        latent: identifies the latent that came out of the measured run, for a live probe.
    """

    profile: ConvergenceProfile | None = None
    is_live: bool = False
    latent: Fingerprint | None = None

    def clear(self) -> None:
        """A run begins that measures into it."""
        self.profile = self.latent = None


def settled_from(changes: Sequence[float], tolerance: float) -> int:
    """First step m ≥ 1 such that no change from step m on exceeds the tolerance; N where the last one does.

    The output of step m - 1 is what is frozen, and the change at m is that from m - 1 to m. Where no change was
    measured, nothing is known to have settled.

    Args:
        changes: relative change at each step, N values.
        tolerance: percent.
    """
    settled = len(changes)
    if not any(math.isfinite(change) for change in changes):
        return settled
    for step in range(len(changes) - 1, 0, -1):
        if changes[step] * PERCENT > tolerance:  # never true of what is not a number
            break
        settled = step
    return settled


def mean_of(values: Iterable[float]) -> float:
    """Mean of those values that are numbers; not a number where none is."""
    numbers = [value for value in values if math.isfinite(value)]
    return sum(numbers) / len(numbers) if numbers else math.nan
