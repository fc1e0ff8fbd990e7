import pytest

from tgate_core.engine.identity import COND, UNCOND, CondBatch, CondKey, Place
from tgate_core.gate.config import GUIDANCE_MODES
from tgate_core.gate.guidance import (
    BRANCHES_APART,
    EMPTY_BRANCH,
    MODES,
    NEEDED_BY_OTHERS,
    NO_GUIDANCE,
    OTHER_BRANCHES,
    SEVERAL_CONDS,
    effective_mode,
)

HERE = Place(model=1, window=None, evaluation=0, conds=None)


def request(*branches):
    """A pass whose branches hold conds of these ids; None for a branch that is not asked for."""
    conds = [None if ids is None else tuple(CondKey(index, name) for name in ids) for index, ids in enumerate(branches)]
    return CondBatch(HERE, tuple(conds), shapes={})


PAIR = request("c", "u")


def effective(guidance, asked, auxiliary):
    mode, reason = effective_mode(MODES[guidance], asked, auxiliary)
    return mode.name, reason


@pytest.mark.parametrize(
    ("guidance", "branch"), [("uncond", 1), ("cond", 0), ("cond_mean", 0), ("cached_delta", 0), ("keep", None)]
)
def test_each_mode_leaves_its_branch(guidance, branch):
    assert (COND, UNCOND) == (0, 1)
    assert MODES[guidance].branch == branch
    assert MODES[guidance].drops_a_branch is (branch is not None)


def test_the_table_names_its_modes_and_users_choose_from_it():
    assert all(name == mode.name for name, mode in MODES.items())
    assert tuple(MODES) == GUIDANCE_MODES
    assert len({mode.summary for mode in MODES.values()}) == len(MODES)


@pytest.mark.parametrize("guidance", GUIDANCE_MODES)
def test_joint_attention_is_for_modes_that_run_the_prompt_on_its_own(guidance):
    assert MODES[guidance].suits_joint_attention is (guidance in ("cond", "cached_delta"))


@pytest.mark.parametrize("guidance", GUIDANCE_MODES)
def test_one_cond_a_branch_gets_what_is_wanted(guidance):
    assert effective(guidance, PAIR, set()) == (guidance, None)


@pytest.mark.parametrize("guidance", GUIDANCE_MODES)
@pytest.mark.parametrize(
    ("branches", "reason"),
    [
        (("c", None), NO_GUIDANCE),
        ((None, "u"), NO_GUIDANCE),
        (("c",), BRANCHES_APART),
        (("c", None, None), NO_GUIDANCE),
        (("c", ""), EMPTY_BRANCH),
        (("", "u"), EMPTY_BRANCH),
        (("c", "u", None), OTHER_BRANCHES),
    ],
)
def test_a_branch_that_does_not_run_leaves_no_guidance_to_drop_and_says_so(guidance, branches, reason):
    wanted = None if guidance == "keep" else reason
    assert effective(guidance, request(*branches), set()) == ("keep", wanted)


@pytest.mark.parametrize(
    ("guidance", "reason"),
    [("uncond", OTHER_BRANCHES), ("cond", OTHER_BRANCHES), ("cached_delta", OTHER_BRANCHES), ("keep", None)],
)
@pytest.mark.parametrize("branches", [("c", "m", "u"), ("c", "m", "")])
def test_branches_other_than_a_pair_are_all_kept(branches, guidance, reason):
    assert effective(guidance, request(*branches), set()) == ("keep", reason)


@pytest.mark.parametrize("branches", [("ab", "u"), ("c", "uv"), ("ab", "uv")])
@pytest.mark.parametrize(
    ("guidance", "expected"),
    [
        ("uncond", ("keep", SEVERAL_CONDS)),
        ("cond", ("cond", None)),
        ("cached_delta", ("cached_delta", None)),
        ("keep", ("keep", None)),
    ],
)
def test_several_conds_cannot_be_merged_but_may_run_on_their_own(branches, guidance, expected):
    assert effective(guidance, request(*branches), set()) == expected


@pytest.mark.parametrize(
    ("guidance", "auxiliary", "expected"),
    [
        ("uncond", {"u"}, ("uncond", None)),
        ("uncond", {"c"}, ("keep", NEEDED_BY_OTHERS)),
        ("uncond", {"u", "c"}, ("keep", NEEDED_BY_OTHERS)),
        ("cond", {"c"}, ("cond", None)),
        ("cond", {"u"}, ("keep", NEEDED_BY_OTHERS)),
        ("cached_delta", {"c"}, ("cached_delta", None)),
        ("cached_delta", {"u"}, ("keep", NEEDED_BY_OTHERS)),
        ("cached_delta", {"neither"}, ("keep", NEEDED_BY_OTHERS)),
        ("keep", {"c", "u"}, ("keep", None)),
    ],
)
def test_a_branch_that_another_node_compares_with_is_not_dropped(guidance, auxiliary, expected):
    assert effective(guidance, PAIR, auxiliary) == expected


@pytest.mark.parametrize(
    ("branches", "is_guided", "has_one_cond_each"),
    [
        (("c", "u"), True, True),
        (("ab", "u"), True, False),
        (("c", "uv"), True, False),
        (("c", None), False, False),
        (("c", ""), False, False),
        (("c",), False, False),
        (("c", "m", "u"), False, False),
    ],
)
def test_a_request_knows_whether_it_is_guided_and_whether_its_captures_can_merge(
    branches, is_guided, has_one_cond_each
):
    asked = request(*branches)
    assert asked.is_guided is is_guided
    assert asked.has_one_cond_each is has_one_cond_each


def test_a_branch_that_is_not_asked_for_has_no_conds():
    assert request("ab", None).conds(COND) == (CondKey(COND, "a"), CondKey(COND, "b"))
    assert request("ab", None).conds(UNCOND) == ()


def test_what_is_merged_belongs_to_all_conds_of_both_branches():
    assert PAIR.pair == (CondKey(COND, "c"), CondKey(UNCOND, "u"))
    assert request("ab", None).pair == (CondKey(COND, "a"), CondKey(COND, "b"))
