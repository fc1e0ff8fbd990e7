"""An example of a technique: while predictions hardly change, the next step holds the last one and runs no network.

All that it takes beside the engine, which knows nothing of it: `install.add_technique(model, "hold", Hold(0.1))`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor


def hold_technique(core: Any) -> type[Any]:
    """The technique's class, made of the pack's core as the running nodes use it."""
    base = core("engine.technique").TechniqueRun

    @dataclass(frozen=True)
    class Hold:
        tolerance: float
        cache_settings: None = None

        def begin(self, context: Any) -> Any:
            return HoldRun(self.tolerance)

    class HoldRun(base):  # type: ignore[misc,valid-type]
        saves = True

        def __init__(self, tolerance: float) -> None:
            self.tolerance = tolerance
            self.held: dict[Any, list[Tensor]] = {}
            self.steady: set[Any] = set()

        def plan(self, plan: Any) -> Any:
            # What others build on is always real; and nothing is held for another place.
            is_held = plan.batch.place in self.steady and not plan.is_relied_on
            return replace(plan, runs_network=False) if is_held else plan

        def finish(self, done: Any, predictions: list[Tensor]) -> list[Tensor]:
            place, branch = done.plan.batch.place, done.plan.branch or 0
            if not done.plan.runs_network:
                self.steady.discard(place)
                return self.held[place]
            last = self.held.get(place)
            if last is not None and change(last[branch], predictions[branch]) < self.tolerance:
                self.steady.add(place)
            self.held[place] = predictions
            return predictions

        def close(self) -> None:
            self.held.clear()

    return Hold


def change(before: Tensor, now: Tensor) -> float:
    """Relative change of a prediction."""
    return float((now - before).norm() / before.norm())
