"""The pack makes the very latents that the published package makes, and so does ComfyUI without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from parity_cases import MODELS, STEPS, TOLERANCE, Case, cases, plain_case
from parity_host import PublishedRun, sample_case
from tiny import distance

NOTICEABLE = 100 * TOLERANCE
RUNS = [pytest.param(model, case, id=f"{model}-{case.name}") for model in MODELS for case in cases(model)]
GATED_RUNS = [run for run in RUNS if run.values[1].schedule]


@pytest.mark.parametrize(("model", "case"), RUNS)
def test_latents_are_those_of_the_published_package(
    model: str,
    case: Case,
    models: dict[str, Any],
    published: dict[str, PublishedRun],
    gated: Callable[[Any, Case], Any],
) -> None:
    reference = published[model]
    ours = sample_case(gated(models[model], case), model, case, reference.sigmas)
    assert distance(ours, reference.latents[case.name]) <= TOLERANCE


@pytest.mark.parametrize(("model", "case"), GATED_RUNS)
def test_every_schedule_is_far_from_plain_sampling(model: str, case: Case, published: dict[str, PublishedRun]) -> None:
    latents = published[model].latents
    effect = distance(latents[case.name], latents[plain_case(model, case).name])
    if case.schedule.gate >= STEPS:
        assert effect == 0
    else:
        assert effect >= NOTICEABLE
