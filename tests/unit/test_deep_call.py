"""The deep feature in one network call: handed out where all of it provably fits, kept where it is new."""

import pytest
import torch

from tgate_core.deepcache.schedule import DeepCacheConfig
from tgate_core.deepcache.technique import DeepCacheRun, DeepCall
from tgate_core.engine.actions import Action
from tgate_core.engine.batch_pass import CondBatchPass
from tgate_core.engine.cache import CaptureCache
from tgate_core.engine.counts import RunCounts
from tgate_core.engine.identity import COND, UNCOND, BankKey, CondBatch, CondKey, FeatureOwner, Place
from tgate_core.engine.technique import BatchPlan, Depth, RunContext

HERE = Place(model=1, window=None, evaluation=0, conds=None)
C, U = CondKey(COND, "c"), CondKey(UNCOND, "u")
KEYS = [BankKey(HERE, FeatureOwner(cond, 0), 0) for cond in (C, U)]
SKIP = torch.zeros(2, 3, 4, 4)
CHANNELS = 5


def feature(*values, size=(4, 4)):
    """What comes out of the deep blocks: one row a cond."""
    return torch.cat([torch.full((1, CHANNELS, *size), float(value)) for value in values])


@pytest.fixture
def cache():
    return CaptureCache(lambda tensor: tensor)


def run(cache, action, h, keys=KEYS, skip=None, rows=None):
    """One call; what goes on into the shallow blocks, and whether the deep ones were left out."""
    call = DeepCall(cache, keys, action, 0, len(keys) if rows is None else rows)
    call.meet_skip(SKIP[: len(keys)] if skip is None else skip)
    given = call.meet_feature(h[:, :0] if call.is_shallow else h)
    return given, call.is_shallow


def values(given):
    return [row.mean().item() for row in given]


def test_what_was_kept_is_handed_out(cache):
    given, is_shallow = run(cache, Action.CAPTURE, feature(1, 2))
    assert (values(given), is_shallow) == ([1, 2], False)
    given, is_shallow = run(cache, Action.REUSE, feature(8, 9))
    assert (values(given), is_shallow) == ([1, 2], True)


def test_capturing_again_replaces(cache):
    run(cache, Action.CAPTURE, feature(1, 2))
    assert values(run(cache, Action.CAPTURE, feature(3, 4))[0]) == [3, 4]
    assert values(run(cache, Action.REUSE, feature(8, 9))[0]) == [3, 4]


def test_conds_are_cut_out_and_put_together(cache):
    run(cache, Action.CAPTURE, feature(1, 2))
    for index, key in enumerate(KEYS):
        assert run(cache, Action.REUSE, feature(9), [key]) == (pytest.approx(feature(index + 1)), True)
    given, is_shallow = run(cache, Action.REUSE, feature(8, 9), KEYS[::-1])
    assert (values(given), is_shallow) == ([2, 1], True)


def test_a_cond_without_a_feature_makes_the_call_full_and_changes_nothing_for_the_other(cache):
    run(cache, Action.CAPTURE, feature(1), KEYS[:1])
    given, is_shallow = run(cache, Action.REUSE, feature(8, 9))
    assert (values(given), is_shallow) == ([1, 9], False)
    given, is_shallow = run(cache, Action.REUSE, feature(6, 7))
    assert (values(given), is_shallow) == ([1, 9], True)


def test_what_is_given_may_be_written_to(cache):
    for action in (Action.CAPTURE, Action.REUSE, Action.REUSE):
        given, _ = run(cache, action, feature(1, 2))
        assert values(given) == [1, 2]
        given.zero_()


@pytest.mark.parametrize(
    "skip",
    [
        pytest.param(torch.zeros(2, 3, 4, 5), id="other width"),
        pytest.param(torch.zeros(4, 3, 4, 4), id="other batch"),
        pytest.param(torch.zeros(2, 3, 4, 4, dtype=torch.float64), id="other precision"),
        pytest.param(torch.zeros(2, 3, 4, 4, device="meta"), id="other device"),
    ],
)
def test_where_it_does_not_fit_the_call_is_full(cache, skip):
    run(cache, Action.CAPTURE, feature(1, 2))
    assert not run(cache, Action.REUSE, feature(8, 9), skip=skip)[1]


@pytest.mark.parametrize(
    ("h", "rows"),
    [
        pytest.param(feature(1, 2, size=(2, 2)), 2, id="resized behind the skip connection"),
        pytest.param(feature(1, 2), 4, id="part of the batch"),
    ],
)
def test_what_cannot_be_told_to_fit_is_not_kept(cache, h, rows):
    run(cache, Action.CAPTURE, h, rows=rows)
    assert cache.nbytes == 0


def test_a_network_run_twice_in_a_call_is_run_in_full_from_then_on(cache):
    run(cache, Action.CAPTURE, feature(1, 2))
    call = DeepCall(cache, KEYS, Action.REUSE, 0, 2)
    given = []
    for h in (feature(8, 8), feature(9, 9)):
        call.meet_skip(SKIP)
        given.append((call.is_shallow, values(call.meet_feature(h))))
    assert given == [(True, [1, 2]), (False, [9, 9])]
    assert call.has_run_again
    assert call.has_reused


def test_another_run_within_a_call_is_run_in_full(cache):
    call = DeepCall(cache, KEYS, Action.CAPTURE, 0, 2)
    with call.other_run():
        call.meet_skip(SKIP)
        call.meet_feature(feature(7, 7))
    call.meet_skip(SKIP)
    call.meet_feature(feature(1, 2))
    call = DeepCall(cache, KEYS, Action.REUSE, 0, 2)
    call.meet_skip(SKIP)
    with call.other_run():
        assert not call.is_shallow
        assert values(call.meet_feature(feature(7, 7))) == [7, 7]
    assert call.is_shallow
    assert values(call.meet_feature(feature(7, 7))) == [1, 2]
    assert not call.has_run_again


LATENT = torch.zeros(1, 4, 8, 8)
PAIR = CondBatch(HERE, ((C,), (U,)), dict.fromkeys((C, U), frozenset({(8, 8)})))


def begin(cache, action, cycle=0, x=LATENT, batch=PAIR):
    """The deep part of a network call; None where it has none."""
    context = RunContext((1.0, 0.0), True, cache, RunCounts(), lambda tensor: tensor)
    deep = DeepCacheRun(DeepCacheConfig(), context)
    plan = BatchPlan(batch, depth=Depth(action, cycle))
    return CondBatchPass(plan, cache, 0, LATENT, {}, [deep]).begin_call([COND], ["c"], x).depth


def keep(cache, **where):
    call = begin(cache, Action.CAPTURE, **where)
    call.meet_skip(SKIP[:1])
    call.meet_feature(feature(1))


def is_reused(cache, **where):
    call = begin(cache, Action.REUSE, **where)
    call.meet_skip(SKIP[:1])
    return call.is_shallow


def test_a_pass_that_computes_asks_for_nothing(cache):
    assert begin(cache, Action.COMPUTE) is None


def test_a_feature_belongs_to_its_cycle_and_place(cache):
    keep(cache)
    assert is_reused(cache)
    assert not is_reused(cache, cycle=3)
    elsewhere = CondBatch(HERE._replace(evaluation=1), PAIR.branches, PAIR.shapes)
    assert not is_reused(cache, batch=elsewhere)
    window = CondBatch(HERE._replace(window=((0, 1), 0)), PAIR.branches, PAIR.shapes)
    assert not is_reused(cache, batch=window)


def test_a_feature_belongs_to_what_went_in(cache):
    keep(cache)
    assert not is_reused(cache, x=LATENT.double())
    drawn = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    assert begin(cache, Action.REUSE, x=drawn[..., :4]) is None  # part of no latent that it knows
