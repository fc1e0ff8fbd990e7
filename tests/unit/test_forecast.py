"""Which steps are predicted, and what a setting may be."""

from __future__ import annotations

import re

import pytest

from tgate_core.deepcache.schedule import DeepCacheConfig, build_deep_schedule
from tgate_core.engine.actions import Action
from tgate_core.forecast.schedule import ForecastConfig, first_late_step, forecast_steps, has_long_steps


def steps_of(steps: int, needs_full: tuple[int, ...] = (), **settings: float) -> list[int]:
    return sorted(forecast_steps(ForecastConfig(**settings), steps, needs_full))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("strength", "expected"),
    [(1, [3, 5, 7, 9]), (2, [3, 4, 6, 7, 9, 10]), (3, [3, 4, 5, 7, 8, 9]), (4, [3, 4, 5, 6, 8, 9, 10])],
)
def test_after_each_step_that_runs_so_many_are_predicted(strength: int, expected: list[int]) -> None:
    assert steps_of(12, strength=strength, start=0.25, end=0.92) == expected


def test_two_steps_run_first_and_one_last_whatever_is_asked_for() -> None:
    assert steps_of(6, strength=4, start=0.0, end=1.0) == [2, 3, 4]
    assert steps_of(3, strength=1, start=0.0, end=1.0) == []
    assert steps_of(1, strength=1, start=0.0, end=1.0) == []


def test_steps_that_others_need_run_and_the_count_begins_anew_behind_them() -> None:
    assert steps_of(12, (4, 5, 8), strength=2, start=0.0, end=1.0) == [2, 3, 6, 7, 9, 10]


def test_start_and_end_are_shares_of_the_run() -> None:
    assert steps_of(20, strength=1, start=0.5, end=0.7) == [10, 12]
    assert ForecastConfig(start=0.5, end=0.5).is_off
    assert steps_of(20, start=0.5, end=0.5) == []


@pytest.mark.parametrize(
    ("settings", "name"),
    [({"strength": 0}, "strength"), ({"strength": 5}, "strength"), ({"start": 1.1}, "start"), ({"end": "1"}, "end")],
)
def test_a_bad_value_is_named(settings: dict[str, object], name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"TGATE: {name} is")):
        ForecastConfig(**settings)  # type: ignore[arg-type]


def test_deep_cache_counts_the_steps_that_run() -> None:
    sigmas = [float(step) for step in range(12, -1, -1)]
    deep = build_deep_schedule(DeepCacheConfig(cache_interval=2), sigmas, skipped={3, 5, 7, 9})
    full = [step for step, depth in enumerate(deep.steps) if depth.action is Action.CAPTURE]
    assert full == [0, 2, 6, 10]
    assert deep.shallow == {1, 4, 8, 11}
    assert [deep.steps[step].cycle for step in (8, 9)] == [6, 6]


def test_a_step_is_late_where_the_noise_falls_faster_than_before() -> None:
    even = [2.0**-step for step in range(13)]
    assert first_late_step(even) == 11
    assert first_late_step([*even[:9], even[8] / 2.5, even[8] / 7, 0.0]) == 8
    assert first_late_step([4.0, 2.0, 3.0, 1.0, 0.0]) == 3  # a step that rises says nothing
    assert first_late_step([1.0, 0.0]) == 0


def test_steps_are_long_by_their_median_in_log_sigma() -> None:
    assert has_long_steps([1.3**-step for step in range(13)])
    assert not has_long_steps([1.1**-step for step in range(13)] + [0.0])
    assert not has_long_steps([1.0, 0.0])
