"""Every sampler of the host with every scheduler: finite, and gated as the rule says."""

from __future__ import annotations

from collections import Counter

import comfy.samplers
import pytest
import tiny
import torch
from record import recording

STEPS = 6
GATE = 3
ATTENTIONS = 1
MAX_CAPTURED_EVALUATIONS = 4


@pytest.fixture(scope="module")
def model():
    """One level, one transformer block: there are some 400 runs to do."""
    return tiny.sd15(
        num_res_blocks=[1],
        channel_mult=[1],
        transformer_depth=[0],
        transformer_depth_output=[0, 0],
        transformer_depth_middle=1,
    )


def step_of(sigma, sigmas):
    """The rule, written once more: the latest step that starts at or above sigma."""
    for step in reversed(range(len(sigmas) - 1)):
        spacing = sigmas[step] - sigmas[step + 1]
        if sigmas[step] + max(1e-5 * sigmas[step], 1e-3 * spacing) >= sigma:
            return step
    return 0


def expected_calls(record):
    """(branches, cross-attentions) of each call: gated where an earlier call of the same ordinal was captured."""
    seen, captured, expected = Counter(), set(), []
    gate = GATE if len(record.sigmas) - 1 > GATE else len(record.sigmas)
    for call in record.calls:
        step = step_of(call.sigma, record.sigmas)
        ordinal = seen[step]
        seen[step] += 1
        if step >= gate and ordinal in captured:
            expected.append(([1], 0))
            continue
        expected.append(([1, 0], ATTENTIONS))
        if step >= gate - 1 and ordinal < MAX_CAPTURED_EVALUATIONS:
            captured.add(ordinal)
    return expected


def check(model, patched, sampler, scheduler):
    with recording(model, patched) as record:
        result = tiny.sample(patched, steps=STEPS, sampler=sampler, scheduler=scheduler)
    assert torch.isfinite(result).all(), scheduler
    actual = [(call.branches, call.cross_attention) for call in record.calls]
    assert actual == expected_calls(record), scheduler
    assert sum(branches == [1] for branches, _ in actual) > 0, scheduler


@pytest.mark.newest
@pytest.mark.parametrize("sampler", comfy.samplers.SAMPLER_NAMES)
def test_every_sampler_on_every_scheduler(model, gated, sampler):
    patched = gated(model, gate=float(GATE))
    for scheduler in comfy.samplers.SCHEDULER_NAMES:
        check(model, patched, sampler, scheduler)


@pytest.mark.parametrize("sampler", comfy.samplers.SAMPLER_NAMES)
def test_every_sampler(model, gated, sampler):
    """Older hosts need not run each with each."""
    check(model, gated(model, gate=float(GATE)), sampler, "normal")


@pytest.mark.parametrize("scheduler", comfy.samplers.SCHEDULER_NAMES)
def test_every_scheduler(model, gated, scheduler):
    check(model, gated(model, gate=float(GATE)), "euler", scheduler)
