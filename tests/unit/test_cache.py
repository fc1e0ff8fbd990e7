import weakref

import pytest
import torch

from tgate_core.engine.cache import Capture, CaptureCache, Form, Site, average, form_together, gather
from tgate_core.engine.identity import BankKey, CondKey, Place

CPU = torch.device("cpu")
SITE = Site("attn2", ("input", 1), 0, 0)
OTHER = Site("attn2", ("input", 1), 1, 0)
SELF = Site("attn1", ("input", 1), 0, 0)
TOKENS_BYTES = 1 * 2 * 3 * 4  # of `tokens(...)`: batch 1, 2 tokens, 3 channels, 4 bytes


HERE = Place(model=1, window=None, evaluation=0, conds=None)
THERE = Place(model=1, window="there", evaluation=0, conds=None)


def key_of(name, part=0, place=HERE):
    return BankKey(place, CondKey(0, name), part)


A, B, C, U, MEAN = (key_of(name) for name in ("a", "b", "c", "u", "mean"))


def tokens(*values):
    """One cond a value, each (1, 2, 3)."""
    return torch.cat([torch.full((1, 2, 3), float(value)) for value in values])


def as_it_is(tensor):
    return tensor


def new_cache(limit_bytes=0):
    return CaptureCache(as_it_is, limit_bytes)


def holds(cache, key, kind="attn2"):
    return cache.holds(key.place, key.owner, kind)


def stored(cache, key, site=SITE, now=0):
    """The capture of one bank, None when it is not there."""
    bank = cache.bank(key, now)
    return None if bank is None else bank.captures.get(site)


def whole(tensor):
    return Capture(tensor, 0, 1, CPU)


class TestCapture:
    def test_it_is_one_of_the_equal_chunks_of_its_tensor(self):
        capture = Capture(tokens(1, 2, 3), 1, 3, CPU)
        assert torch.equal(capture.tokens, tokens(2))
        assert capture.tokens.data_ptr() == capture.base[1].data_ptr()
        assert capture.chunk_shape == (1, 2, 3)
        assert capture.nbytes == TOKENS_BYTES

    def test_its_bytes_count_the_element_size(self):
        assert Capture(tokens(1, 2).half(), 0, 2, CPU).nbytes == TOKENS_BYTES // 2

    def test_chunks_may_holdseveral_rows(self):
        capture = Capture(tokens(1, 2, 3, 4), 1, 2, CPU)
        assert torch.equal(capture.tokens, tokens(3, 4))
        assert capture.chunk_shape == (2, 2, 3)


class TestGather:
    def test_conds_that_were_captured_together_come_back_without_a_copy(self):
        base = tokens(1, 2)
        assert gather([Capture(base, 0, 2, CPU), Capture(base, 1, 2, CPU)], tokens(0, 0)) is base

    def test_a_single_cond_comes_back_without_a_copy(self):
        base = tokens(1)
        assert gather([whole(base)], tokens(0)) is base

    def test_another_order_is_put_together_anew(self):
        base = tokens(1, 2)
        gathered = gather([Capture(base, 1, 2, CPU), Capture(base, 0, 2, CPU)], tokens(0, 0))
        assert torch.equal(gathered, tokens(2, 1))

    def test_conds_of_separate_calls_are_put_together(self):
        assert torch.equal(gather([whole(tokens(1)), whole(tokens(2))], tokens(0, 0)), tokens(1, 2))

    def test_conds_of_two_shared_tensors_are_put_together(self):
        captures = [Capture(tokens(1, 2), 0, 2, CPU), Capture(tokens(3, 4), 1, 2, CPU)]
        assert torch.equal(gather(captures, tokens(0, 0)), tokens(1, 4))

    def test_one_cond_of_two_is_cut_out(self):
        base = tokens(1, 2)
        assert torch.equal(gather([Capture(base, 0, 2, CPU)], tokens(0)), tokens(1))
        assert torch.equal(gather([Capture(base, 1, 2, CPU)], tokens(0)), tokens(2))

    def test_two_conds_of_three_are_cut_out(self):
        base = tokens(1, 2, 3)
        gathered = gather([Capture(base, 0, 3, CPU), Capture(base, 1, 3, CPU)], tokens(0, 0))
        assert torch.equal(gathered, tokens(1, 2))

    @pytest.mark.parametrize(
        "like",
        [
            torch.zeros(1, 3, 3),
            torch.zeros(1, 2, 4),
            torch.zeros(2, 2, 3),
            torch.zeros(1, 2, 3, dtype=torch.float16),
            torch.zeros(1, 2, 3, device="meta"),
        ],
        ids=["tokens", "channels", "batch", "dtype", "device"],
    )
    def test_nothing_is_handed_out_that_does_not_fit(self, like):
        assert gather([whole(tokens(1))], tokens(0)) is not None
        assert gather([whole(tokens(1))], like) is None

    def test_one_missing_capture_is_enough(self):
        assert gather([whole(tokens(1)), None], tokens(0, 0)) is None

    def test_one_cond_that_does_not_fit_is_enough(self):
        assert gather([whole(tokens(1)), whole(torch.zeros(1, 5, 3))], tokens(0, 0)) is None

    def test_a_batch_that_conds_cannot_share_evenly_is_not_served(self):
        assert gather([whole(tokens(1)), whole(tokens(2))], tokens(0, 0, 0)) is None


class TestFormTogether:
    @pytest.mark.parametrize(
        "captures",
        [
            [whole(tokens(1)), whole(tokens(2))],
            [Capture(tokens(1, 2), 0, 2, CPU), Capture(tokens(3, 4), 1, 2, CPU)],
        ],
    )
    def test_it_is_the_form_of_what_is_put_together(self, captures):
        form = form_together(captures)
        assert form == Form((2, 2, 3), torch.float32, CPU)
        assert gather(captures, form).shape == form.shape

    @pytest.mark.parametrize(
        "other",
        [
            None,
            whole(torch.zeros(1, 5, 3)),
            whole(tokens(1).half()),
            Capture(tokens(1), 0, 1, torch.device("meta")),
        ],
        ids=["missing", "tokens", "dtype", "kept elsewhere"],
    )
    def test_there_is_none_where_any_capture_is_not_at_hand(self, other):
        assert form_together([whole(tokens(1)), other]) is None
        assert form_together([other, whole(tokens(1))]) is None
        assert form_together([]) is None


@pytest.mark.parametrize("captured_together", [True, False])
def test_what_inference_mode_captured_may_be_written_to_and_saved_outside_of_it(captured_together):
    with torch.inference_mode():
        captures = [whole(tokens(1))] if captured_together else [Capture(tokens(1, 2), 0, 2, CPU)]
        assert gather(captures, tokens(0)).is_inference()
    given, scale = gather(captures, tokens(0)), torch.ones(1, requires_grad=True)
    torch.autograd.grad((given * scale).sum(), scale)
    given += 1
    assert torch.equal(captures[0].tokens, tokens(1))


class TestStore:
    def test_conds_of_one_call_share_its_tensor(self):
        cache, output = new_cache(), tokens(1, 2)
        cache.store([A, B], SITE, output, now=0)
        one, other = stored(cache, A), stored(cache, B)
        assert one.base is other.base is output
        assert torch.equal(one.tokens, tokens(1))
        assert torch.equal(other.tokens, tokens(2))

    def test_it_keeps_what_the_storage_returns_and_the_device_the_model_used(self):
        cache = CaptureCache(lambda tensor: tensor * 10)
        cache.store([A], SITE, tokens(1), now=0)
        cache.store([B, None], SITE, tokens(2, 3), now=0)
        assert torch.equal(stored(cache, A).base, tokens(10))
        assert torch.equal(stored(cache, B).base, tokens(20))
        assert stored(cache, A).device == stored(cache, B).device == CPU

    def test_a_cond_that_is_not_kept_holds_no_memory(self):
        cache, output = new_cache(), tokens(1, 2, 3)
        cache.store([None, B, None], SITE, output, now=0)
        reference, pointer = weakref.ref(output), output.untyped_storage().data_ptr()
        del output
        assert reference() is None
        base = stored(cache, B).base
        assert torch.equal(base, tokens(2))
        assert base.untyped_storage().data_ptr() != pointer
        assert base.untyped_storage().nbytes() == TOKENS_BYTES
        assert cache.nbytes == TOKENS_BYTES

    @pytest.mark.parametrize("keys", [[A, B], [A, None]])
    def test_a_capture_holds_no_graph_and_leaves_that_of_its_output_alone(self, keys):
        cache, weight = new_cache(), torch.ones(1, requires_grad=True)
        output = tokens(1, 2) * weight
        cache.store(keys, SITE, output, now=0)
        assert not stored(cache, A).base.requires_grad
        (gradient,) = torch.autograd.grad(output.sum(), weight)
        assert gradient.item() == tokens(1, 2).sum()

    def test_a_new_capture_replaces_the_oldone_of_its_site(self):
        cache = new_cache()
        cache.store([A], SITE, tokens(1), now=0)
        cache.store([A], OTHER, tokens(5), now=0)
        cache.store([A], SITE, tokens(2), now=0)
        assert torch.equal(stored(cache, A).tokens, tokens(2))
        assert torch.equal(stored(cache, A, OTHER).tokens, tokens(5))
        assert cache.nbytes == 2 * TOKENS_BYTES

    def test_it_holds_what_was_stored_by_place_owner_and_kind(self):
        cache = new_cache()
        cache.store([key_of("a", part=1)], SITE, tokens(1), now=0)
        assert cache.holds(HERE, A.owner, "attn2")
        assert not cache.holds(HERE, A.owner, "attn1")
        assert not cache.holds(HERE, B.owner, "attn2")
        assert not cache.holds(THERE, A.owner, "attn2")

    def test_it_knows_the_parts_of_an_owner_at_a_place(self):
        cache = new_cache()
        for key in (key_of("a", 0), key_of("a", (4, 0)), key_of("b", 7), key_of("a", 9, THERE)):
            cache.store([key], SITE, tokens(1), now=0)
        assert cache.parts(HERE, A.owner) == [0, (4, 0)]
        assert cache.parts(THERE, A.owner) == [9]
        assert cache.parts(THERE, B.owner) == []


class TestBytes:
    def test_they_follow_every_change_and_the_peak_stays(self):
        cache = new_cache()
        cache.store([A, B], SITE, tokens(1, 2), now=0)
        cache.store([A, B], SELF, tokens(1, 2), now=0)
        assert (cache.nbytes, cache.peak_bytes) == (4 * TOKENS_BYTES, 4 * TOKENS_BYTES)
        cache.drop(A)
        assert cache.nbytes == 2 * TOKENS_BYTES
        cache.release("attn1")
        assert cache.nbytes == TOKENS_BYTES
        cache.store([C], SITE, tokens(1).double(), now=0)
        assert (cache.nbytes, cache.peak_bytes) == (3 * TOKENS_BYTES, 4 * TOKENS_BYTES)
        cache.drop(key_of("never there"))
        cache.clear()
        assert (cache.nbytes, cache.peak_bytes) == (0, 4 * TOKENS_BYTES)

    def test_merging_two_branches_halves_them_and_never_holds_both_beside_the_whole_mean(self):
        cache = new_cache()
        sites = [SITE, OTHER, SELF, Site("attn1", ("output", 3), 0, 0)]
        for site in sites:
            cache.store([U, C], site, tokens(1, 2), now=0)
        cache.merge(U, C, MEAN, now=0)
        assert cache.nbytes == len(sites) * TOKENS_BYTES
        assert cache.peak_bytes == 2 * len(sites) * TOKENS_BYTES

    def test_clearing_lets_go_of_the_tensors(self):
        cache, output = new_cache(), tokens(1, 2)
        cache.store([A, B], SITE, output, now=0)
        reference = weakref.ref(output)
        del output
        assert reference() is not None
        cache.clear()
        assert reference() is None


class TestLimit:
    def test_what_would_not_fit_is_not_captured(self):
        cache = new_cache(limit_bytes=2 * TOKENS_BYTES)
        cache.store([A, B], SITE, tokens(1, 2), now=0)
        assert not cache.has_refused
        cache.store([C], SITE, tokens(3), now=0)
        assert cache.has_refused
        assert not holds(cache, C)
        assert cache.nbytes == cache.peak_bytes == 2 * TOKENS_BYTES

    def test_conds_of_a_call_are_captured_together_or_not_at_all(self):
        cache = new_cache(limit_bytes=2 * TOKENS_BYTES - 1)
        cache.store([A, B], SITE, tokens(1, 2), now=0)
        assert not holds(cache, A)
        assert cache.has_refused

    def test_a_cond_that_is_not_kept_needs_no_room(self):
        cache = new_cache(limit_bytes=TOKENS_BYTES)
        cache.store([A, None], SITE, tokens(1, 2), now=0)
        assert holds(cache, A)
        assert not cache.has_refused

    def test_a_call_of_which_nothing_is_kept_is_no_refusal(self):
        cache = new_cache(limit_bytes=1)
        cache.store([None, None], SITE, tokens(1, 2), now=0)
        assert not cache.has_refused
        assert cache.nbytes == 0

    def test_a_refusal_is_remembered_when_there_is_room_again(self):
        cache = new_cache(limit_bytes=TOKENS_BYTES)
        cache.store([A, B], SITE, tokens(1, 2), now=0)
        cache.store([A], SITE, tokens(1), now=0)
        assert holds(cache, A)
        assert cache.has_refused

    def test_dropping_makes_room(self):
        cache = new_cache(limit_bytes=TOKENS_BYTES)
        cache.store([A], SITE, tokens(1), now=0)
        cache.drop(A)
        cache.store([B], SITE, tokens(1), now=0)
        assert holds(cache, B)
        assert not cache.has_refused

    def test_zero_is_no_limit(self):
        cache = new_cache(limit_bytes=0)
        cache.store([A, B], SITE, tokens(1, 2), now=0)
        assert holds(cache, A)
        assert not cache.has_refused


class TestMerge:
    def test_two_banks_become_their_mean(self):
        cache = new_cache()
        for site, values in ((SITE, (1, 4)), (SELF, (3, 9))):
            cache.store([U, C], site, tokens(*values), now=0)
        cache.merge(U, C, MEAN, now=0)
        assert torch.equal(stored(cache, MEAN).tokens, tokens(2.5))
        assert torch.equal(stored(cache, MEAN, SELF).tokens, tokens(6))
        assert cache.bank(U, 0) is None
        assert cache.bank(C, 0) is None

    def test_the_originals_are_freed(self):
        cache, output = new_cache(), tokens(1, 2)
        cache.store([U, C], SITE, output, now=0)
        reference = weakref.ref(output)
        del output
        cache.merge(U, C, MEAN, now=0)
        assert reference() is None

    def test_one_call_or_two_make_no_difference(self):
        together, apart = new_cache(), new_cache()
        together.store([U, C], SITE, tokens(0.1, 0.7), now=0)
        apart.store([C], SITE, tokens(0.7), now=0)
        apart.store([U], SITE, tokens(0.1), now=0)
        for cache in (together, apart):
            cache.merge(U, C, MEAN, now=0)
        assert torch.equal(stored(together, MEAN).tokens, stored(apart, MEAN).tokens)

    @pytest.mark.parametrize("present", [(), (U,), (C,)])
    def test_without_both_banks_nothing_happens(self, present):
        cache = new_cache()
        for key in (*present, MEAN):
            cache.store([key], SITE, tokens(7), now=0)
        cache.merge(U, C, MEAN, now=0)
        assert torch.equal(stored(cache, MEAN).tokens, tokens(7))
        assert all(holds(cache, key) for key in present)
        assert cache.nbytes == (len(present) + 1) * TOKENS_BYTES

    def test_an_earlier_mean_is_replaced_as_a_whole(self):
        cache = new_cache()
        cache.store([MEAN], OTHER, tokens(7), now=0)
        cache.store([U, C], SITE, tokens(1, 3), now=0)
        cache.merge(U, C, MEAN, now=0)
        assert torch.equal(stored(cache, MEAN).tokens, tokens(2))
        assert stored(cache, MEAN, OTHER) is None

    @pytest.mark.parametrize("misfit", [torch.zeros(1, 5, 3), torch.zeros(1, 2, 3, dtype=torch.float16), None])
    def test_banks_that_differ_at_any_site_are_left_as_they_are(self, misfit):
        cache = new_cache()
        cache.store([U, C], SITE, tokens(1, 3), now=0)
        cache.store([U], OTHER, tokens(1), now=0)
        if misfit is not None:
            cache.store([C], OTHER, misfit, now=0)
        before = cache.nbytes
        assert not cache.merge(U, C, MEAN, now=0)
        assert torch.equal(stored(cache, U).tokens, tokens(1))
        assert torch.equal(stored(cache, C).tokens, tokens(3))
        assert cache.bank(MEAN, 0) is None
        assert cache.nbytes == before

    def test_a_capture_in_a_full_cache_takes_the_place_of_the_one_it_replaces(self):
        cache = CaptureCache(lambda tensor: tensor, limit_bytes=TOKENS_BYTES)
        cache.store([C], SITE, tokens(1), now=0)
        cache.store([C], SITE, tokens(2), now=0)
        assert not cache.has_refused
        assert torch.equal(stored(cache, C).tokens, tokens(2))

    def test_a_capture_that_is_refused_leaves_no_older_one_behind(self):
        cache = CaptureCache(lambda tensor: tensor, limit_bytes=TOKENS_BYTES)
        cache.store([C], SITE, tokens(1), now=0)
        cache.store([C], SITE, torch.zeros(1, 5, 3), now=0)
        assert cache.has_refused
        assert stored(cache, C) is None
        assert cache.nbytes == 0

    def test_the_mean_is_stored_where_captures_live(self):
        kept = []

        def keep(tensor):
            kept.append(tensor.clone())
            return tensor

        cache = CaptureCache(keep)
        cache.store([U, C], SITE, tokens(1, 3), now=0)
        cache.merge(U, C, MEAN, now=0)
        assert torch.equal(kept[-1], tokens(2))
        assert len(kept) == 2

    def test_the_mean_rounds_like_the_published_one_in_half_precision(self):
        least = 2.0**-24  # half of it is no number any more, so the halving has to come last
        uncond, cond = torch.tensor([1.0, least]).half(), torch.tensor([1.0 + 2**-10, least]).half()
        assert torch.equal(average(uncond, cond), torch.stack([uncond, cond]).mean(0))

    @pytest.mark.parametrize("values", [(40000.0, 60000.0), (65504.0, 65504.0), (-65504.0, -40000.0)])
    def test_the_mean_of_large_values_in_half_precision_does_not_overflow(self, values):
        uncond, cond = (torch.tensor([value]).half() for value in values)
        mean = average(uncond, cond)
        assert mean.dtype == torch.float16
        assert mean.tolist() == torch.tensor([sum(values) / 2]).half().tolist()


class TestForgetting:
    def test_release_drops_one_kind_and_banks_that_become_empty(self):
        cache = new_cache()
        cache.store([A], SITE, tokens(1), now=0)
        cache.store([A], SELF, tokens(1), now=0)
        cache.store([B], SELF, tokens(1), now=0)
        cache.release("attn1")
        assert holds(cache, A)
        assert not holds(cache, A, "attn1")
        assert cache.bank(B, 0) is None
        assert cache.nbytes == TOKENS_BYTES

    def test_a_bank_is_forgotten_when_nobody_used_it_since(self):
        cache = new_cache()
        cache.store([A], SITE, tokens(1), now=3)
        cache.store([B], SITE, tokens(1), now=5)
        cache.forget_unused(since=3)
        assert stored(cache, A, now=3) is not None
        cache.forget_unused(since=4)
        assert cache.bank(A, 9) is None
        assert cache.bank(B, 9) is not None
        assert cache.nbytes == TOKENS_BYTES

    def test_asking_for_a_bank_or_storing_into_it_is_a_use(self):
        cache = new_cache()
        cache.store([A, B, C], SITE, tokens(1, 1, 1), now=0)
        cache.bank(A, now=5)
        cache.store([B], OTHER, tokens(1), now=5)
        cache.forget_unused(since=5)
        assert holds(cache, A)
        assert holds(cache, B)
        assert not holds(cache, C)

    def test_looking_whether_a_capture_is_there_is_no_use(self):
        cache = new_cache()
        cache.store([A], SITE, tokens(1), now=0)
        holds(cache, A)
        cache.forget_unused(since=1)
        assert not holds(cache, A)

    def test_a_mean_counts_as_used_when_it_is_made(self):
        cache = new_cache()
        cache.store([U, C], SITE, tokens(1, 3), now=0)
        cache.merge(U, C, MEAN, now=5)
        cache.forget_unused(since=5)
        assert holds(cache, MEAN)
