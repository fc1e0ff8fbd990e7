"""One network call, and the pass that gives its conds their banks."""

from dataclasses import replace

import pytest
import torch

from tgate_core.engine.actions import Action
from tgate_core.engine.batch_pass import CondBatchPass
from tgate_core.engine.cache import CaptureCache, Site
from tgate_core.engine.forward import ForwardCall
from tgate_core.engine.identity import COND, UNCOND, BankKey, CondBatch, CondKey, Place
from tgate_core.engine.technique import BatchPlan

COMPUTE, CAPTURE, REUSE = Action.COMPUTE, Action.CAPTURE, Action.REUSE
BLOCK = ("input", 4)
C, U = CondKey(COND, "c"), CondKey(UNCOND, "u")
HERE = Place(model=1, window=None, evaluation=0, conds=None)
LATENT = torch.arange(2 * 4 * 6 * 8.0).reshape(2, 4, 6, 8)
WHOLE = frozenset({(6, 8)})
PAIR = CondBatch(HERE, ((C,), (U,)), {C: WHOLE, U: WHOLE})


A, B, MEAN = (BankKey(HERE, CondKey(COND, name), 0) for name in ("a", "b", "mean"))


def tokens(*values):
    """One cond a value, each (1, 2, 3)."""
    return torch.cat([torch.full((1, 2, 3), float(value)) for value in values])


def new_cache():
    return CaptureCache(lambda tensor: tensor)


def call_on(cache, *keys, cross=COMPUTE, self_=COMPUTE, now=0, on_anchor_miss=None, visits=1):
    plan = BatchPlan(PAIR, actions={"attn1": self_, "attn2": cross})
    return ForwardCall(None, plan, cache, keys, now, on_anchor_miss, visits)


def attend(call, kind, output, block=BLOCK, index=0):
    """One attention as a block runs it; returns what the residual gets, and whether the module was skipped."""
    reused = call.reuse(kind, block, index, torch.zeros_like(output))
    return (call.capture(kind, output), False) if reused is None else (reused, True)


class TestProtocol:
    def test_a_kind_that_is_just_computed_is_left_alone(self):
        cache, output = new_cache(), tokens(1)
        attend(call_on(cache, A, cross=CAPTURE), "attn2", output)
        call = call_on(cache, A, cross=COMPUTE, self_=REUSE)
        computed = tokens(5)
        result, is_skipped = attend(call, "attn2", computed)
        assert result is computed
        assert not is_skipped
        assert cache.bank(A, 0).captures[Site("attn2", BLOCK, 0, 0)].base is output

    def test_a_capture_computes_keeps_the_output_and_passes_it_on(self):
        cache, output = new_cache(), tokens(1, 2)
        result, is_skipped = attend(call_on(cache, A, B, cross=CAPTURE), "attn2", output)
        assert result is output
        assert not is_skipped
        assert torch.equal(cache.bank(B, 0).captures[Site("attn2", BLOCK, 0, 0)].tokens, tokens(2))

    def test_a_reuse_skips_the_module_and_gives_the_kept_output(self):
        cache, output = new_cache(), tokens(1, 2)
        attend(call_on(cache, A, B, cross=CAPTURE), "attn2", output)
        call = call_on(cache, A, B, cross=REUSE)
        result, is_skipped = attend(call, "attn2", tokens(8, 9))
        assert is_skipped
        assert result is output
        assert call.reused.total() == 1

    def test_a_reuse_without_its_capture_computes_and_captures(self):
        cache = new_cache()
        call = call_on(cache, A, cross=REUSE)
        result, is_skipped = attend(call, "attn2", tokens(5))
        assert not is_skipped
        assert torch.equal(result, tokens(5))
        assert call.reused.total() == 0
        result, is_skipped = attend(call_on(cache, A, cross=REUSE), "attn2", tokens(9))
        assert is_skipped
        assert torch.equal(result, tokens(5))

    def test_a_capture_that_does_not_fit_is_replaced(self):
        cache = new_cache()
        attend(call_on(cache, A, cross=CAPTURE), "attn2", tokens(1))
        bigger = torch.ones(1, 7, 3)
        result, is_skipped = attend(call_on(cache, A, cross=REUSE), "attn2", bigger)
        assert not is_skipped
        assert result is bigger
        assert cache.nbytes == bigger.nbytes

    def test_one_cond_without_capture_runs_the_module_and_the_others_get_theirs_all_the_same(self):
        cache = new_cache()
        attend(call_on(cache, A, cross=CAPTURE), "attn2", tokens(1))
        result, is_skipped = attend(call_on(cache, A, B, cross=REUSE), "attn2", tokens(8, 9))
        assert not is_skipped
        assert torch.equal(result, tokens(1, 9))  # as if each had been in a call of its own
        result, is_skipped = attend(call_on(cache, B, A, cross=REUSE), "attn2", tokens(0, 0))
        assert is_skipped
        assert torch.equal(result, tokens(9, 1))

    def test_a_capture_is_reused_for_the_site_it_was_made_at_only(self):
        cache = new_cache()
        attend(call_on(cache, A, cross=CAPTURE), "attn2", tokens(1))
        assert not attend(call_on(cache, A, self_=REUSE), "attn1", tokens(2))[1]
        assert not attend(call_on(cache, A, cross=REUSE), "attn2", tokens(3), block=("output", 4))[1]
        assert not attend(call_on(cache, A, cross=REUSE), "attn2", tokens(4), index=1)[1]
        assert not attend(call_on(cache, B, cross=REUSE), "attn2", tokens(5))[1]
        assert attend(call_on(cache, A, cross=REUSE), "attn2", tokens(6))[1]

    def test_modules_that_share_a_name_are_told_apart_by_their_order(self):
        cache = new_cache()
        call = call_on(cache, A, cross=CAPTURE, visits=3)
        for value in (1, 2, 3):
            attend(call, "attn2", tokens(value))
        call = call_on(cache, A, cross=REUSE, visits=3)
        results = [attend(call, "attn2", tokens(0))[0] for _ in range(3)]
        assert [result[0, 0, 0].item() for result in results] == [1, 2, 3]
        assert call.reused.total() == 3
        assert not call.has_run_again
        assert not attend(call, "attn2", tokens(4))[1]
        assert call.has_run_again

    def test_a_network_that_runs_again_leaves_no_captures(self):
        cache = new_cache()
        call = call_on(cache, A, cross=CAPTURE)
        for value in (1, 2):
            attend(call, "attn2", tokens(value))
        assert call.has_run_again
        assert not call.has_reused
        call.forget()
        assert cache.nbytes == 0

    def test_another_run_within_a_call_is_computed_as_usual(self):
        cache = new_cache()
        call = call_on(cache, A, cross=CAPTURE)
        with call.other_run():
            assert attend(call, "attn2", tokens(7))[0][0, 0, 0] == 7
        attend(call, "attn2", tokens(1))
        call = call_on(cache, A, cross=REUSE)
        with call.other_run():
            assert not attend(call, "attn2", tokens(7))[1]
        assert attend(call, "attn2", tokens(7))[0][0, 0, 0] == 1
        assert not call.has_run_again

    def test_a_cond_that_is_not_kept_is_computed_along(self):
        cache = new_cache()
        attend(call_on(cache, A, None, cross=CAPTURE), "attn2", tokens(1, 2))
        result, is_skipped = attend(call_on(cache, A, None, cross=REUSE), "attn2", tokens(3, 4))
        assert not is_skipped
        assert torch.equal(result, tokens(1, 4))
        assert cache.nbytes == 24

    def test_a_new_capture_replaces_all_old_ones(self):
        cache = new_cache()
        attend(call_on(cache, A, cross=CAPTURE), "attn2", tokens(1))
        result, _ = attend(call_on(cache, A, B, cross=CAPTURE), "attn2", tokens(8, 9))
        assert torch.equal(result, tokens(8, 9))
        assert torch.equal(attend(call_on(cache, A, cross=REUSE), "attn2", tokens(0))[0], tokens(8))

    def test_an_output_that_the_conds_cannot_share_is_passed_on_but_not_kept(self):
        cache, output = new_cache(), tokens(1, 2, 3)
        result, _ = attend(call_on(cache, A, B, cross=CAPTURE), "attn2", output)
        assert result is output
        assert cache.nbytes == 0

    def test_leaving_without_entering_changes_nothing(self):
        cache, output = new_cache(), tokens(1)
        call = call_on(cache, A, cross=CAPTURE, self_=CAPTURE)
        assert call.capture("attn2", output) is output
        call.reuse("attn1", BLOCK, 0, output)
        assert call.capture("attn2", output) is output
        assert call.capture("attn1", output) is output
        assert cache.nbytes == 0

    def test_an_attention_is_left_once(self):
        cache = new_cache()
        call = call_on(cache, A, cross=CAPTURE)
        attend(call, "attn2", tokens(1))
        call.capture("attn2", tokens(2))
        assert torch.equal(cache.bank(A, 0).captures[Site("attn2", BLOCK, 0, 0)].tokens, tokens(1))

    def test_an_attention_that_was_never_left_is_forgotten_at_the_next(self):
        cache = new_cache()
        call = call_on(cache, A, cross=CAPTURE, self_=COMPUTE)
        call.reuse("attn2", BLOCK, 0, tokens(0))
        call.reuse("attn1", BLOCK, 0, tokens(0))
        call.capture("attn2", tokens(5))
        assert cache.nbytes == 0

    @pytest.mark.parametrize("action", [CAPTURE, REUSE])
    def test_a_call_uses_its_banks_even_where_it_reuses_nothing(self, action):
        cache = new_cache()
        cache.store([A], Site("attn2", BLOCK, 0, 0), tokens(1), now=0)
        call_on(cache, A, cross=action, now=7)
        cache.forget_unused(since=7)
        assert cache.holds(HERE, A.owner, "attn2")

    def test_what_a_call_captures_counts_as_used_now(self):
        cache = new_cache()
        attend(call_on(cache, A, cross=CAPTURE, now=7), "attn2", tokens(1))
        cache.forget_unused(since=7)
        assert cache.holds(HERE, A.owner, "attn2")


class TestAhead:
    """What a call will be given is asked before the network runs, and taken back where it was not used."""

    def given_ahead(self, on_anchor_miss=None):
        cache = new_cache()
        attend(call_on(cache, A, cross=CAPTURE), "attn2", tokens(1))
        call = call_on(cache, A, cross=REUSE, on_anchor_miss=on_anchor_miss)
        form = call.form_ahead(Site("attn2", BLOCK, 0, 0))
        assert torch.equal(call.reuse("attn2", BLOCK, 0, form), tokens(1))
        return call

    def test_a_site_without_capture_has_no_form(self):
        call = self.given_ahead()
        assert call.form_ahead(Site("attn2", BLOCK, 1, 0)) is None
        assert call.form_ahead(Site("attn1", BLOCK, 0, 0)) is None

    def test_an_attention_that_was_not_reached_counts_as_never_met(self):
        call = self.given_ahead()
        call.take_back("attn2", is_misfit=False)
        assert not call.has_reused
        assert call.met["attn2"] == 0
        assert not call.has_misfit
        assert list(call.reasons)

    def test_an_attention_that_came_in_another_form_is_a_misfit_and_loses_the_text(self):
        missed = []
        call = self.given_ahead(on_anchor_miss=lambda: missed.append(True))
        call.take_back("attn2", is_misfit=True)
        assert not call.has_reused
        assert call.has_misfit
        assert missed == [True]

    def test_after_another_run_nothing_is_captured(self):
        cache = new_cache()
        call = call_on(cache, A, cross=CAPTURE)
        call.note_another_run()
        attend(call, "attn2", tokens(1))
        assert call.has_run_again
        assert cache.nbytes == 0


class TestAnchorMiss:
    def test_cross_attention_without_capture_is_reported_and_not_kept(self):
        cache, lost = new_cache(), []
        call = call_on(cache, MEAN, cross=REUSE, on_anchor_miss=lambda: lost.append(True))
        result, is_skipped = attend(call, "attn2", tokens(1))
        assert not is_skipped
        assert torch.equal(result, tokens(1))
        assert lost == [True]
        assert cache.nbytes == 0

    def test_self_attention_sees_no_text_and_is_simply_captured(self):
        cache, lost = new_cache(), []
        call = call_on(cache, MEAN, cross=REUSE, self_=REUSE, on_anchor_miss=lambda: lost.append(True))
        attend(call, "attn1", tokens(1))
        assert lost == []
        assert cache.holds(HERE, MEAN.owner, "attn1")

    @pytest.mark.parametrize("action", [COMPUTE, CAPTURE])
    def test_cross_attention_that_is_to_be_computed_is_not_lost(self, action):
        lost = []
        attend(call_on(new_cache(), MEAN, cross=action, on_anchor_miss=lambda: lost.append(True)), "attn2", tokens(1))
        assert lost == []

    def test_cross_attention_with_its_capture_is_not_lost(self):
        cache, lost = new_cache(), []
        attend(call_on(cache, MEAN, cross=CAPTURE), "attn2", tokens(1))
        call = call_on(cache, MEAN, cross=REUSE, on_anchor_miss=lambda: lost.append(True))
        assert attend(call, "attn2", tokens(0))[1]
        assert lost == []


def begin(cache, cross=COMPUTE, self_=COMPUTE, request=PAIR, tiles=None, **plan):
    plan = BatchPlan(request, actions={"attn1": self_, "attn2": cross}, **plan)
    return CondBatchPass(plan, cache, now=0, latent=LATENT, tiles={} if tiles is None else tiles)


def call_of(batch_pass, *conds, x=LATENT):
    """The network call of these conds, each evaluated on `x`."""
    return batch_pass.begin_call(
        [cond.branch for cond in conds], [cond.uuid for cond in conds], torch.cat([x] * len(conds))
    )


def reused(batch_pass, *conds, x=LATENT):
    """What the cross-attention of a call reuses, a number a cond; None where it has to be computed."""
    result, is_skipped = attend(call_of(batch_pass, *conds, x=x), "attn2", tokens(*[0] * len(conds)))
    return [chunk[0, 0, 0].item() for chunk in result.chunk(len(conds))] if is_skipped else None


class TestCallsOfAPass:
    def test_a_pass_that_only_computes_needs_no_calls(self):
        assert not call_of(begin(new_cache()), C).is_active

    @pytest.mark.parametrize("kind", ["cross", "self_"])
    def test_one_kind_with_something_to_do_is_enough(self, kind):
        assert call_of(begin(new_cache(), **{kind: CAPTURE}), C).is_active

    @pytest.mark.parametrize(
        ("branches", "uuids", "rows"),
        [([], [], 2), ([0, 1], [], 4), ([0, 1], ["c"], 2), ([0, 1], ["c", "u"], 3), ([0, 1], ["c", "u"], 2)],
        ids=["no conds", "no ids", "ids missing", "uneven rows", "rows missing"],
    )
    def test_conds_that_cannot_be_told_apart_are_left_alone(self, branches, uuids, rows):
        x = LATENT[:1].repeat(rows, 1, 1, 1)
        batch_pass = begin(new_cache(), cross=REUSE)
        assert not batch_pass.begin_call(branches, uuids, x).is_active
        assert not batch_pass.has_missed_anchor
        anchored = begin(new_cache(), cross=REUSE, branch=UNCOND, uses_merged_captures=True)
        assert not anchored.begin_call(branches, uuids, x).is_active
        assert anchored.has_missed_anchor  # only uncond runs: its text is the wrong one

    def test_an_anchored_pass_whose_cross_attention_is_computed_has_no_text_to_lose(self):
        anchored = begin(new_cache(), cross=COMPUTE, self_=REUSE, branch=UNCOND, uses_merged_captures=True)
        assert not call_of(anchored, C, U, x=LATENT[:1]).is_active
        assert not anchored.has_missed_anchor

    def test_each_cond_has_a_bank_of_its_own(self):
        cache = new_cache()
        attend(call_of(begin(cache, cross=CAPTURE), U, C), "attn2", tokens(1, 2))
        assert reused(begin(cache, cross=REUSE), C) == [2]
        assert reused(begin(cache, cross=REUSE), U) == [1]
        assert cache.parts(HERE, C) == cache.parts(HERE, U) == [0]

    def test_the_same_id_in_both_branches_is_two_conds(self):
        cache, ours, theirs = new_cache(), CondKey(COND, "x"), CondKey(UNCOND, "x")
        request = CondBatch(HERE, ((ours,), (theirs,)), {ours: WHOLE, theirs: WHOLE})
        attend(call_of(begin(cache, cross=CAPTURE, request=request), ours, theirs), "attn2", tokens(1, 2))
        assert reused(begin(cache, cross=REUSE, request=request), theirs) == [2]

    def test_calls_that_hold_a_cond_again_are_told_apart_by_their_order(self):
        cache = new_cache()
        batch_pass = begin(cache, cross=CAPTURE)
        for value in (1, 2):
            attend(call_of(batch_pass, C), "attn2", tokens(value))
        batch_pass = begin(cache, cross=REUSE)
        assert [reused(batch_pass, C) for _ in range(3)] == [[1], [2], None]

    def test_a_cond_twice_in_one_call_is_two_parts(self):
        cache = new_cache()
        attend(call_of(begin(cache, cross=CAPTURE), C, C), "attn2", tokens(1, 2))
        assert cache.parts(HERE, C) == [0, 1]

    def test_captures_of_a_branch_that_is_not_kept_are_left_out(self):
        cache = new_cache()
        attend(call_of(begin(cache, cross=CAPTURE, captured_branch=COND), C, U), "attn2", tokens(1, 2))
        assert cache.holds(HERE, C, "attn2")
        assert not cache.holds(HERE, U, "attn2")

    def test_an_anchored_pass_takes_the_merged_captures_part_by_part(self):
        cache = new_cache()
        for part, value in ((0, 5), (1, 6)):
            cache.store([BankKey(HERE, (C, U), part)], Site("attn2", BLOCK, 0, 0), tokens(value), now=0)
        batch_pass = begin(cache, cross=REUSE, branch=UNCOND, uses_merged_captures=True)
        assert [reused(batch_pass, U) for _ in range(2)] == [[5], [6]]
        assert not batch_pass.has_missed_anchor

    def test_an_anchored_pass_notices_a_missing_capture(self):
        batch_pass = begin(new_cache(), cross=REUSE, branch=UNCOND, uses_merged_captures=True)
        assert reused(batch_pass, U) is None
        assert batch_pass.has_missed_anchor

    def test_a_pass_on_the_cond_branch_computes_what_is_missing_with_the_right_text(self):
        cache = new_cache()
        batch_pass = begin(cache, cross=REUSE, branch=COND)
        assert reused(batch_pass, C) is None
        assert not batch_pass.has_missed_anchor
        assert cache.holds(HERE, C, "attn2")

    @pytest.mark.parametrize(
        "other",
        [
            Place(model=2, window=None, evaluation=0, conds=None),
            Place(model=1, window=((0, 1), 2), evaluation=0, conds=None),
            Place(model=1, window=None, evaluation=1, conds=None),
            Place(model=1, window=None, evaluation=0, conds=("areas",)),
        ],
        ids=["model", "window", "evaluation", "conds"],
    )
    def test_captures_of_another_place_are_not_reused(self, other):
        cache = new_cache()
        attend(call_of(begin(cache, cross=CAPTURE), C), "attn2", tokens(1))
        assert reused(begin(cache, cross=REUSE, request=replace(PAIR, place=other)), C) is None
        assert reused(begin(cache, cross=REUSE), C) == [1]


class TestTiles:
    LEFT, RIGHT = LATENT[..., :4], LATENT[..., 4:]

    def test_a_tile_is_known_by_where_its_values_are_and_not_by_its_turn(self):
        cache = new_cache()
        batch_pass = begin(cache, cross=CAPTURE)
        attend(call_of(batch_pass, C, x=self.LEFT), "attn2", tokens(1))
        attend(call_of(batch_pass, C, x=self.RIGHT), "attn2", tokens(2))
        batch_pass = begin(cache, cross=REUSE)
        assert reused(batch_pass, C, x=self.RIGHT) == [2]
        assert reused(batch_pass, C, x=self.LEFT) == [1]

    def test_a_tile_that_was_shifted_is_another_one(self):
        cache = new_cache()
        attend(call_of(begin(cache, cross=CAPTURE), C, x=self.LEFT), "attn2", tokens(1))
        assert reused(begin(cache, cross=REUSE), C, x=LATENT[..., 1:5]) is None
        assert reused(begin(cache, cross=REUSE), C, x=LATENT[..., :3]) is None  # the same corner, another size

    def test_where_a_tile_was_found_is_remembered_for_the_next_pass(self):
        tiles = {}
        call_of(begin(new_cache(), cross=CAPTURE, tiles=tiles), C, U, x=self.RIGHT)
        assert tiles == {(C, 0): (0, 4), (U, 0): (0, 4)}

    def test_what_is_no_part_of_the_latent_is_left_alone(self):
        foreign = self.LEFT + 1000
        assert not call_of(begin(new_cache(), cross=CAPTURE), C, x=foreign).is_active
        anchored = begin(new_cache(), cross=REUSE, branch=UNCOND, uses_merged_captures=True)
        assert not call_of(anchored, U, x=foreign).is_active
        assert anchored.has_missed_anchor

    def test_the_area_of_a_cond_is_no_tile(self):
        cache = new_cache()
        request = CondBatch(HERE, ((C,), (U,)), {C: frozenset({(6, 4)}), U: WHOLE})
        # Its values need not be the latent's own: the host tells its size.
        attend(call_of(begin(cache, cross=CAPTURE, request=request), C, x=self.LEFT + 1000), "attn2", tokens(1))
        assert cache.parts(HERE, C) == [0]
        assert reused(begin(cache, cross=REUSE, request=request), C, x=self.LEFT + 2000) == [1]
