"""From measured changes to a gate."""

from __future__ import annotations

import math

import pytest

from tgate_core.probe.profile import ConvergenceProfile, mean_of, settled_from
from tgate_core.report.pictures.convergence_picture import draw_convergence

NAN = math.nan


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ((NAN, 0.5, 0.2, 0.05, 0.04), 3),
        ((NAN, 0.05, 0.04, 0.03, 0.02), 1),
        ((NAN, 0.05, 0.5, 0.03, 0.02), 3),
        ((NAN, 0.5, 0.4, 0.3, 0.2), 5),
        ((NAN, 0.5, NAN, 0.05, NAN), 2),  # what was left out says nothing
        ((NAN, 0.5, 0.1, 0.1, 0.1), 2),  # the tolerance itself is within
        ((NAN,), 1),
        ((NAN, NAN, NAN), 3),  # nothing was measured
    ],
)
def test_settled_means_to_the_end(changes, expected):
    assert settled_from(changes, 10.0) == expected


def profile(**rows):
    sigmas = (8.0, 4.0, 2.0, 1.0)
    return ConvergenceProfile("UNet", "x", sigmas, {"attn1": {}, "attn2": rows}, (NAN,) * 4)


def test_the_gate_is_where_the_mean_settles():
    measured = profile(a=(NAN, 0.5, 0.01, 0.01), b=(NAN, 0.02, 0.02, 0.02))
    assert measured.mean("attn2")[1] == pytest.approx(0.26)
    assert measured.gate_step(10.0) == 2
    assert measured.site_gate_steps(10.0) == {"a": 2, "b": 1}
    assert measured.gate_step(30.0) == 1


def test_nothing_measured_never_settles():
    assert all(math.isnan(value) for value in profile().mean("attn2"))
    assert math.isnan(mean_of([]))
    assert profile().gate_step(10.0) == 4
    assert profile(a=(NAN,) * 4, b=(NAN, 0.01, 0.01, 0.01)).site_gate_steps(10.0) == {"a": 4, "b": 1}


def test_without_cross_attention_the_gate_follows_joint_attention():
    changes = {"attn1": {"a": (NAN, 0.5, 0.01, 0.01), "b": (NAN, 0.02, 0.02, 0.02)}, "attn2": {}}
    measured = ConvergenceProfile("Flux", "x", (8.0, 4.0, 2.0, 1.0), changes, (NAN,) * 4)
    assert (measured.gate_step(10.0), measured.site_gate_steps(10.0)) == (2, {"a": 2, "b": 1})
    assert measured.gated_name == "joint attention"
    width, height = draw_convergence(measured, 10.0, 2).size
    assert (width, height) == (1024, 940 - 264 - 62)  # one panel less


@pytest.mark.parametrize("steps", [1, 26, 27, 10_000, 300_000])
def test_a_run_of_any_length_can_be_drawn(steps):
    changes = {"attn1": {}, "attn2": {"a": (0.5,) * steps}}
    measured = ConvergenceProfile("UNet", "x", (1.0,) * steps, changes, (NAN,) * steps)
    assert draw_convergence(measured, 10.0, steps).size == (1024, 940)


@pytest.mark.parametrize(
    ("sigmas", "step", "expected"),
    [
        ([8.0, 4.0, 2.0, 1.0, 0.0], 2, 2),
        ([8.0, 6.0, 4.0, 3.0, 2.0, 1.5, 1.0, 0.5, 0.0], 2, 4),
        ([1.5, 1.0, 0.5, 0.0], 2, 1),  # begins below: never before its second step
        ([8.0, 4.0, 0.0], 4, 2),
        ([8.0, 4.0, 0.0], 3, 2),
    ],
)
def test_another_run_has_its_gate_at_the_same_noise(sigmas, step, expected):
    assert profile().step_in(sigmas, step) == expected
