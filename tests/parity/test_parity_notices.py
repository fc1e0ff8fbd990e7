"""Parity is worth something only if it breaks when the method does: each mistake here has to be noticed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from parity_cases import GATED_CASES, TOLERANCE, Case
from parity_host import PublishedRun, distance, sample_case

CASES = {case.name: case for case in GATED_CASES}
Break = Callable[[pytest.MonkeyPatch, Any], None]


def shift_gate(by: int) -> Break:
    """A gate `by` steps off."""

    def apply(monkeypatch: pytest.MonkeyPatch, pack: Any) -> None:
        build = pack.core("run").build_schedule
        monkeypatch.setattr(
            pack.core("run"), "build_schedule", lambda config, steps, gate: build(config, steps, gate + by)
        )

    return apply


def run_cond_after_the_gate(monkeypatch: pytest.MonkeyPatch, pack: Any) -> None:
    """The cond branch in the uncond branch's place, on the same merged captures."""
    run, model_pass = pack.core("run"), pack.core("model_pass")
    monkeypatch.setattr(run, "surviving_branch", lambda _guidance: pack.core("request").COND)
    monkeypatch.setattr(model_pass.PassPlan, "is_anchored", property(lambda plan: plan.branch is not None))


def anchor_on(choose: Callable[[Any, Any], Any]) -> Break:
    """Something else than the mean of the two branches' captures, chosen of uncond and cond."""

    def apply(monkeypatch: pytest.MonkeyPatch, pack: Any) -> None:
        monkeypatch.setattr(pack.core("cache"), "average", choose)

    return apply


def count_planning_interval_from_warm_up(monkeypatch: pytest.MonkeyPatch, pack: Any) -> None:
    schedule = pack.core("schedule")
    right = schedule.self_attention_action

    def wrong(step: int, config: Any, gate_step: int) -> Any:
        if not config.warm_up < step < gate_step - 1:
            return right(step, config, gate_step)
        is_due = (step - config.warm_up) % config.sp_interval == 0
        return schedule.Action.CAPTURE if is_due else schedule.Action.REUSE

    monkeypatch.setattr(schedule, "self_attention_action", wrong)


def count_fidelity_interval_from_gate(monkeypatch: pytest.MonkeyPatch, pack: Any) -> None:
    schedule = pack.core("schedule")
    right = schedule.self_attention_action

    def wrong(step: int, config: Any, gate_step: int) -> Any:
        if step < gate_step:
            return right(step, config, gate_step)
        is_due = (step - gate_step) % config.fi_interval == 0
        return schedule.Action.CAPTURE if is_due else schedule.Action.REUSE

    monkeypatch.setattr(schedule, "self_attention_action", wrong)


BREAKS = [
    pytest.param(shift_gate(1), "cross_attention_only", id="gate one step late"),
    pytest.param(shift_gate(-1), "cross_attention_only", id="gate one step early"),
    pytest.param(shift_gate(1), "no_guidance", id="gate one step late without guidance"),
    pytest.param(shift_gate(-1), "gate_is_steps", id="gate inside the run instead of at its end"),
    pytest.param(run_cond_after_the_gate, "cross_attention_only", id="cond instead of uncond"),
    pytest.param(anchor_on(lambda uncond, cond: uncond), "cross_attention_only", id="anchor is uncond"),
    pytest.param(anchor_on(lambda uncond, cond: cond), "cross_attention_only", id="anchor is cond"),
    pytest.param(anchor_on(lambda uncond, cond: uncond + cond), "gate_1", id="anchor is the sum"),
    pytest.param(count_planning_interval_from_warm_up, "self_attention_interval_3", id="interval 3 from warm-up"),
    pytest.param(count_planning_interval_from_warm_up, "self_attention_interval_5", id="interval 5 from warm-up"),
    pytest.param(count_planning_interval_from_warm_up, "batch_2", id="interval from warm-up, batch"),
    pytest.param(count_fidelity_interval_from_gate, "fidelity_interval_2", id="fidelity interval from the gate"),
]


@pytest.mark.parametrize(("break_it", "name"), BREAKS)
def test_a_mistake_in_the_method_is_noticed(
    break_it: Break,
    name: str,
    models: dict[str, Any],
    published: dict[str, PublishedRun],
    gated: Callable[[Any, Case], Any],
    pack: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The SDXL-shaped model has every part of the method: sizes and pooled text make its branches differ after the gate.
    reference, case = published["sdxl"], CASES[name]
    break_it(monkeypatch, pack)
    ours = sample_case(gated(models["sdxl"], case), "sdxl", case, reference.sigmas)
    assert ours.isfinite().all()
    assert distance(ours, reference.latents[case.name]) > 5 * TOLERANCE
