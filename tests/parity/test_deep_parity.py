"""DeepCache makes the very latents that its published package makes, alone and with T-GATE's own loaders for it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from parity_cases import TOLERANCE
from parity_deep import DEEP_CASES, DEEP_GATED_CASES, DEEP_MODELS, DeepCase
from parity_host import PublishedRun, load_published, sample_case
from reference import reference
from tiny import distance

FIXTURES = Path(__file__).resolve().parent / "fixtures"
NOTICEABLE = 10 * TOLERANCE
ALL_CASES = DEEP_CASES + DEEP_GATED_CASES
RUNS = [pytest.param(model, deep, id=f"{model}-{deep.name}") for model in DEEP_MODELS for deep in ALL_CASES]
SAME_CADENCE = [run for run in RUNS if not run.values[1].restarts]
RESTARTS = [run for run in RUNS if run.values[1].restarts]


@pytest.fixture(scope="session")
def published_deep() -> dict[str, PublishedRun]:
    """What the published packages made of the small models, by name of the model."""
    return {name: load_published(FIXTURES / f"deep_{name}.safetensors") for name in DEEP_MODELS}


def ours(pack: Any, model: Any, deep: DeepCase) -> Any:
    """The model patched by the nodes with the settings of a case."""
    node = pack.nodes["TGATEDeepCache"]
    patched = node.execute(model=model, cache_interval=deep.interval, cache_branch_id=deep.branch).args[0]
    if deep.case.schedule is None:
        return patched
    gate = pack.nodes["TGATEApplyAdvanced"]
    return gate.execute(model=patched, **asdict(deep.case.schedule), gate_unit="step", guidance="uncond").args[0]


@pytest.mark.parametrize(("model", "deep"), SAME_CADENCE)
def test_latents_are_those_of_the_published_packages(
    model: str, deep: DeepCase, models: dict[str, Any], published_deep: dict[str, PublishedRun], pack: Any
) -> None:
    published = published_deep[model]
    result = sample_case(ours(pack, models[model], deep), model, deep.case, published.sigmas)
    assert distance(result, published.latents[deep.name]) <= TOLERANCE


@pytest.mark.parametrize(("model", "deep"), RUNS)
def test_every_case_is_far_from_plain_sampling(
    model: str, deep: DeepCase, models: dict[str, Any], published_deep: dict[str, PublishedRun]
) -> None:
    published = published_deep[model]
    plain = sample_case(models[model], model, deep.case, published.sigmas)
    assert distance(published.latents[deep.name], plain) >= NOTICEABLE


@pytest.mark.parametrize(("model", "deep"), RESTARTS)
def test_where_the_published_loader_restarts_the_full_steps_are_all_that_differs(
    model: str, deep: DeepCase, models: dict[str, Any], published_deep: dict[str, PublishedRun], pack: Any
) -> None:
    """Its full steps are counted anew from the gate; the published table of MACs, as ours, goes on counting."""
    published = published_deep[model]
    gate = deep.case.schedule.gate
    restarting = reference(models[model], gate, branch=deep.branch, full_steps=deep.published_full_steps)
    restarted = sample_case(restarting, model, deep.case, published.sigmas)
    assert distance(restarted, published.latents[deep.name]) <= TOLERANCE
    counted_on = sample_case(ours(pack, models[model], deep), model, deep.case, published.sigmas)
    assert distance(counted_on, published.latents[deep.name]) > 2 * TOLERANCE
