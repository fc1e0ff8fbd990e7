"""Which steps are predicted, and what a setting may be."""

from __future__ import annotations

import re

import pytest
import torch

from tgate_core.deepcache.schedule import DeepCacheConfig, build_deep_schedule
from tgate_core.engine.actions import Action
from tgate_core.forecast.schedule import (
    ForecastConfig,
    at_growing_gaps,
    first_late_step,
    forecast_steps,
    has_long_steps,
)
from tgate_core.forecast.technique import followed


def steps_of(steps: int, needs_full: tuple[int, ...] = (), **settings: float) -> list[int]:
    sigmas = [float(step) for step in range(steps, -1, -1)]
    return sorted(forecast_steps(ForecastConfig(**settings), sigmas, needs_full))  # type: ignore[arg-type]


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


def test_steps_that_a_preset_has_placed_run_and_those_that_others_need() -> None:
    config = ForecastConfig(running=(0, 1, 2, 4, 7), by_preset=True)
    assert sorted(forecast_steps(config, [float(step) for step in range(10, -1, -1)], (9,))) == [3, 5, 6, 8]
    assert config.most_in_a_row == 2
    assert ForecastConfig(running=(0, 1, 2)).most_in_a_row == 1


@pytest.mark.parametrize(
    ("count", "end", "power", "expected"),
    [
        (10, 20, 1.5, [0, 1, 2, 3, 5, 7, 9, 12, 14, 17]),
        (8, 25, 2.0, [0, 1, 2, 4, 6, 10, 14, 19]),
        (4, 12, 1.0, [0, 1, 2, 9]),
        (9, 9, 2.0, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (12, 9, 2.0, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (0, 9, 2.0, []),
    ],
)
def test_steps_lie_close_first_and_then_farther_and_farther(
    count: int, end: int, power: float, expected: list[int]
) -> None:
    assert at_growing_gaps(count, end, power) == expected


def pictures(*values: tuple[float, ...]) -> list[torch.Tensor]:
    """Each of so many steps, of pictures of one number."""
    return [torch.tensor(step).reshape(-1, 1, 1, 1) for step in values]


def test_a_change_is_followed_as_far_as_the_one_before_would_have_led() -> None:
    # Of a picture each: it goes on in a line, by a quarter, which half of it follows, back, faster, and not at all.
    seen = pictures((0.0, 0.0, 0.0, 0.0, 1.0), (1.0, 1.0, 1.0, 1.0, 1.0), (2.0, 1.25, 0.5, 3.0, 1.0))
    made = followed(seen, (0, 1, 2, 3)).flatten()
    assert made.tolist() == pytest.approx([3.0, 1.375, 0.5, 5.0, 1.0])
    # Of two steps alone, all of it.
    assert followed(seen[1:], (1, 2, 3)).flatten().tolist() == [3.0, 1.5, 0.0, 5.0, 1.0]
    # Steps that ran twice as far apart, and one half as far from the last.
    assert followed(seen, (0, 2, 4, 5)).flatten().tolist() == pytest.approx([2.5, 1.3125, 0.5, 4.0, 1.0])


def test_each_picture_of_a_batch_is_predicted_as_if_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    seen = [torch.randn(3, 4, 8, 8, generator=generator) for _ in range(3)]
    together = followed(seen, (1, 2, 4, 6))
    for place in range(3):
        alone = followed([one[place : place + 1] for one in seen], (1, 2, 4, 6))
        assert torch.equal(together[place : place + 1], alone)
