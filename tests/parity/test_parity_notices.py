"""Parity is worth something only if it breaks when the method does: each mistake here has to be noticed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from parity_cases import TOLERANCE, Case, cases
from parity_host import PublishedRun, sample_case
from tiny import distance

# SDXL has every part of the method in an image UNet: sizes and pooled text make its branches differ after the gate.
MODELS = ("sdxl", "pixart_alpha", "svd")
CASES = {model: {case.name: case for case in cases(model)} for model in MODELS}
Break = Callable[[pytest.MonkeyPatch, Any], None]


def shift_gate(by: int) -> Break:
    """A gate `by` steps off."""

    def apply(monkeypatch: pytest.MonkeyPatch, pack: Any) -> None:
        build = pack.core("gate.technique").build_schedule

        def wrong(config: Any, steps: int, gate_step: int, *rest: Any) -> Any:
            return build(config, steps, gate_step + by, *rest)

        monkeypatch.setattr(pack.core("gate.technique"), "build_schedule", wrong)

    return apply


def run_the_other_branch_after_the_gate(monkeypatch: pytest.MonkeyPatch, pack: Any) -> None:
    """Cond in the place of uncond (or the reverse), on the same merged captures."""
    identity, modes = pack.core("engine.identity"), pack.core("gate.guidance").MODES
    other = {identity.COND: identity.UNCOND, identity.UNCOND: identity.COND, None: None}
    for name, mode in modes.items():
        monkeypatch.setitem(modes, name, replace(mode, branch=other[mode.branch]))


def anchor_on(choose: Callable[[Any, Any], Any]) -> Break:
    """Something else than the mean of the two branches' captures, chosen of uncond and cond."""

    def apply(monkeypatch: pytest.MonkeyPatch, pack: Any) -> None:
        monkeypatch.setattr(pack.core("engine.cache"), "average", choose)

    return apply


def count_planning_interval_from_warm_up(monkeypatch: pytest.MonkeyPatch, pack: Any) -> None:
    schedule = pack.core("gate.schedule")
    right = schedule.self_attention_action

    def wrong(step: int, config: Any, gate_step: int) -> Any:
        if not config.warm_up < step < gate_step - 1:
            return right(step, config, gate_step)
        is_due = (step - config.warm_up) % config.sp_interval == 0
        return schedule.Action.CAPTURE if is_due else schedule.Action.REUSE

    monkeypatch.setattr(schedule, "self_attention_action", wrong)


def count_fidelity_interval_from_gate(monkeypatch: pytest.MonkeyPatch, pack: Any) -> None:
    schedule = pack.core("gate.schedule")
    right = schedule.self_attention_action

    def wrong(step: int, config: Any, gate_step: int) -> Any:
        if step < gate_step:
            return right(step, config, gate_step)
        is_due = (step - gate_step) % config.fi_interval == 0
        return schedule.Action.CAPTURE if is_due else schedule.Action.REUSE

    monkeypatch.setattr(schedule, "self_attention_action", wrong)


MISTAKES = [
    ("gate one step late", shift_gate(1), "cross_attention_only"),
    ("gate one step early", shift_gate(-1), "cross_attention_only"),
    ("gate one step late without guidance", shift_gate(1), "no_guidance"),
    ("gate inside the run instead of at its end", shift_gate(-1), "gate_is_steps"),
    ("the other branch", run_the_other_branch_after_the_gate, "gate_1"),
    ("anchor is uncond", anchor_on(lambda uncond, cond: uncond), "cross_attention_only"),
    ("anchor is cond", anchor_on(lambda uncond, cond: cond), "cross_attention_only"),
    ("anchor is the sum", anchor_on(lambda uncond, cond: uncond + cond), "gate_1"),
    ("interval 3 from warm-up", count_planning_interval_from_warm_up, "self_attention_interval_3"),
    ("interval 5 from warm-up", count_planning_interval_from_warm_up, "self_attention_interval_5"),
    ("interval from warm-up, batch", count_planning_interval_from_warm_up, "batch_2"),
    ("fidelity interval from the gate", count_fidelity_interval_from_gate, "fidelity_interval_2"),
]
# PixArt's branches differ in their text alone, and that has no way in after the gate but the cross-attention.
NO_MISTAKE = {("pixart_alpha", "the other branch")}
BREAKS = [
    pytest.param(model, break_it, name, id=f"{model}, {mistake}")
    for model in MODELS
    for mistake, break_it, name in MISTAKES
    if name in CASES[model] and (model, mistake) not in NO_MISTAKE
]


@pytest.mark.parametrize(("model", "break_it", "name"), BREAKS)
def test_a_mistake_in_the_method_is_noticed(
    model: str,
    break_it: Break,
    name: str,
    models: dict[str, Any],
    published: dict[str, PublishedRun],
    gated: Callable[[Any, Case], Any],
    pack: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reference, case = published[model], CASES[model][name]
    break_it(monkeypatch, pack)
    ours = sample_case(gated(models[model], case), model, case, reference.sigmas)
    assert ours.isfinite().all()
    assert distance(ours, reference.latents[case.name]) > 5 * TOLERANCE
