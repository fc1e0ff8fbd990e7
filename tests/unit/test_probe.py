import math

import pytest
import torch

from tgate_core.cache import Site
from tgate_core.probe import Measurement
from tgate_core.request import BankKey, CondKey, Place

SIGMAS = (2.0, 1.0, 0.0)
SITE = Site("attn2", ("input", 1), 0, 0)
KEY = BankKey(Place(model=1, window=None, evaluation=0, conds=None), CondKey(0, "c"), 0)
SHAPE = (1, 2, 3)


def measurement():
    return Measurement(SIGMAS, lambda tensor: tensor)


def profile_of(measured):
    return measured.profile("network", "signature")


def test_branches_in_half_precision_do_not_overflow():
    x, cond, uncond = (torch.full(SHAPE, value).half() for value in (40000.0, -40000.0, -30000.0))
    measured = measurement()
    measured.note_predictions(0, x, cond, uncond)
    assert profile_of(measured).cosines[0] == pytest.approx(1.0)


def test_outputs_in_half_precision_do_not_overflow():
    measured = measurement()
    for step, value in enumerate((40000.0, -40000.0)):
        measured.note_output(step, SITE, [KEY], torch.full(SHAPE, value).half())
    assert profile_of(measured).changes["attn2"][SITE.name][1] == pytest.approx(2.0)


def test_what_is_measured_holds_no_graph():
    measured, weight = measurement(), torch.ones(SHAPE, requires_grad=True)
    for step in (0, 1):
        measured.note_output(step, SITE, [KEY], weight * (step + 1))
        measured.note_predictions(step, weight * 3, weight * 2, weight)
    kept = [tensor for _, tensor in measured._last.values()]
    noted = [value for values in (*measured._changes.values(), *measured._cosines.values()) for value in values]
    assert len(kept) == 1
    assert len(noted) == 3
    assert not any(tensor.requires_grad for tensor in kept + noted)


def test_once_measuring_has_failed_it_is_over_and_told_when_it_is_asked():
    kept, error = [], RuntimeError("no memory")

    def keep(tensor):
        if kept:
            raise error
        kept.append(tensor)
        return tensor

    measured = Measurement(SIGMAS, keep)
    for step in (0, 1, 1):
        measured.note_output(step, SITE, [KEY], torch.ones(SHAPE))
    measured.note_predictions(1, *(torch.ones(SHAPE),) * 3)
    assert measured._last == {}
    with pytest.raises(RuntimeError, match="no memory"):
        profile_of(measured)


def test_a_step_without_measurement_is_not_a_number():
    measured = measurement()
    measured.note_output(0, SITE, [KEY], torch.ones(SHAPE))
    measured.note_output(1, SITE, [KEY], torch.ones(SHAPE))
    profile = profile_of(measured)
    assert math.isnan(profile.changes["attn2"][SITE.name][0])
    assert profile.changes["attn2"][SITE.name][1] == 0
    assert all(math.isnan(cosine) for cosine in profile.cosines)
