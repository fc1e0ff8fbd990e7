"""The probe in one sampling run: it looks at what attentions give, and changes nothing."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from ..engine.forward import ForwardCall
from ..engine.identity import COND, UNCOND, BankKey, CondKey, Fingerprint
from ..engine.storage import CacheSettings
from ..engine.technique import BatchPlan, FinishedBatch, Layout, RunContext, TechniqueRun
from .measurement import Measurement
from .profile import Probe

PROBE_MEASURES = "TGATE Probe measures this run and leaves it as it is"
NOT_MEASURED = "the probe measured nothing: it measures runs that the other nodes of TGATE leave as they are"


@dataclass(frozen=True)
class Probing:
    """A probe as a node has put it on a model."""

    probe: Probe

    @property
    def cache_settings(self) -> CacheSettings | None:
        """Not for the probe to say."""
        return None

    def begin(self, context: RunContext) -> ProbeRun:
        """State for one run."""
        return ProbeRun(self.probe, context)


class ProbeRun(TechniqueRun):
    """The probe in one run: it measures only if the run is otherwise left as it is."""

    def __init__(self, probe: Probe, context: RunContext) -> None:
        """
        Args:
            probe: gets the profile once the run is complete.
            context: what the run is about.
        """
        self._probe = probe
        self._context = context
        self._measurement: Measurement | None = Measurement(context.sigmas, context.store)

    @property
    def is_watching(self) -> bool:
        """Whether it measures."""
        return self._measurement is not None

    def lay_out(self, layout: Layout) -> None:
        """A run that saves something is not the one to be measured."""
        if not layout.is_settled:
            return
        if layout.is_plain:
            self._probe.clear()
        else:
            self._measurement = None

    def opening_reasons(self, saves_nothing: bool) -> Iterable[str]:
        """A measured run saves nothing, and one that saves something is not measured."""
        return (NOT_MEASURED,) if self._measurement is None else (PROBE_MEASURES,)

    @property
    def side_notes(self) -> frozenset[str]:
        """That nothing is measured says nothing of the others."""
        return frozenset({NOT_MEASURED})

    def plan(self, plan: BatchPlan) -> BatchPlan:
        """Only the first evaluation of a step counts: a change within a step is none from step to step."""
        is_observed = self.is_watching and plan.batch.place.evaluation == 0
        return replace(plan, is_observed=True) if is_observed else plan

    def begin_call(self, call: ForwardCall, parts: Sequence[tuple[CondKey, Hashable]], x: Tensor) -> None:
        """Be told of every attention's output."""
        measurement, plan = self._measurement, call.plan
        if measurement is None or plan is None or not plan.is_observed:
            return
        step, keys = plan.step, [BankKey(plan.batch.place, cond, part) for cond, part in parts]
        call.observers.append(lambda site, tokens: measurement.note_output(step, site, keys, tokens))

    def finish(self, done: FinishedBatch, predictions: list[Tensor]) -> list[Tensor]:
        """The angle between the branches; with one branch there is none."""
        batch = done.plan.batch
        if self._measurement is not None and done.has_run and batch.is_guided and batch.place.evaluation == 0:
            self._measurement.note_predictions(done.plan.step, done.x, predictions[COND], predictions[UNCOND])
        return predictions

    def complete(self, latent: Tensor) -> None:
        """Hand on what was measured; if that fails the probe holds nothing, rather than what an older run left."""
        if self._measurement is not None:
            self._probe.clear()
            self._probe.profile = self._measurement.profile(self._context.network, self._context.signature())
            self._probe.latent = Fingerprint.of(latent)

    def close(self) -> None:
        """Let go of the outputs."""
        self._measurement = None
