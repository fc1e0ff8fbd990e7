"""DeepCache's decisions: which steps are full, where a network is cut, and what is made up for after shallow steps."""

from itertools import product

import pytest
from run_driver import start

from tgate_core.deepcache.schedule import DeepCacheConfig, branch_count, split_blocks
from tgate_core.deepcache.technique import DeepCache, DeepCacheRun
from tgate_core.engine.actions import Action
from tgate_core.gate.config import GateConfig
from tgate_core.gate.schedule import build_schedule

LETTERS = {Action.COMPUTE: ".", Action.CAPTURE: "+", Action.REUSE: "="}
STEPS = 12
DOWN = tuple(float(STEPS - step) for step in range(STEPS + 1))


def lay_out(config=None, sigmas=DOWN, gate_step=STEPS, protect_last=0):
    """The schedule of a run that has a gate as well."""
    gate = GateConfig(protect_last=protect_last, cache_limit_mb=0)
    return start(gate, gate_step, sigmas, others=[DeepCache(config or DeepCacheConfig())]).find(DeepCacheRun).schedule


def letters(schedule):
    return "".join(LETTERS[depth.action] for depth in schedule.steps)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (DeepCacheConfig(), "+==+==+==+=="),
        (DeepCacheConfig(cache_interval=1), "............"),
        (DeepCacheConfig(cache_interval=5), "+====+====+="),
        (DeepCacheConfig(cache_interval=11), "+==========."),
        (DeepCacheConfig(cache_interval=99), "+==========="),
        (DeepCacheConfig(start=0.5), "......+==+=="),
        (DeepCacheConfig(start=0.2), "..+==+==+==."),
        (DeepCacheConfig(end=0.5), "+==+==......"),
        (DeepCacheConfig(start=0.25, end=0.75), "...+==+==..."),
        (DeepCacheConfig(start=0.5, end=0.5), "............"),
        (DeepCacheConfig(start=0.9, end=0.95), "............"),
    ],
)
def test_every_interval_th_step_is_full(config, expected):
    schedule = lay_out(config)
    assert letters(schedule) == expected
    assert schedule.shallow == {step for step, letter in enumerate(expected) if letter == "="}
    assert schedule.branch == config.cache_branch_id


@pytest.mark.parametrize("value", ["0", None, [0], True, -1])
@pytest.mark.parametrize("name", ["cache_interval", "cache_branch_id", "start", "end"])
def test_settings_of_another_type_are_named(name, value):
    with pytest.raises(ValueError, match=f"^TGATE: {name} is "):
        DeepCacheConfig(**{name: value})


def test_a_whole_number_is_a_share_and_a_whole_float_a_count():
    config = DeepCacheConfig(cache_interval=2.0, cache_branch_id=1.0, start=0, end=1)
    assert config == DeepCacheConfig(2, 1, 0.0, 1.0)
    assert [type(value) for value in (config.cache_interval, config.start)] == [int, float]


@pytest.mark.parametrize(
    ("gate_step", "expected"),
    [
        (1, "+==+==+==+=="),
        (2, ".+=+==+==+=="),  # what step 0 kept would never be used
        (3, "+=.+==+==+=="),
        (4, "+==+==+==+=="),
        (5, "+==.+=+==+=="),
        (12, "+==+==+==+=="),
        (20, "+==+==+==+=="),
    ],
)
def test_the_step_before_the_gate_is_full_and_the_cadence_goes_on(gate_step, expected):
    assert letters(lay_out(gate_step=gate_step)) == expected


def test_a_step_that_rises_is_full():
    sigmas = (9.0, 8.0, 7.0, 8.5, 6.0, 5.0, 4.0, 3.0, 0.0)
    schedule = lay_out(DeepCacheConfig(cache_interval=5), sigmas, gate_step=8)
    assert letters(schedule) == "+==+=+=="
    assert [depth.cycle for depth in schedule.steps] == [0, 0, 0, 3, 3, 5, 5, 5]


def test_protected_steps_are_full():
    assert letters(lay_out(gate_step=4, protect_last=4)) == "+==+==+=...."
    assert letters(lay_out(gate_step=4, protect_last=99)) == "............"


def test_a_gate_beyond_the_run_protects_nothing():
    assert letters(lay_out(protect_last=4)) == letters(lay_out())


def test_what_was_kept_is_wanted_until_the_next_full_step():
    schedule = lay_out(DeepCacheConfig(end=0.5))
    assert schedule.live == (False, True, True, False, True, True, *[False] * 6)
    assert [depth.cycle for depth in schedule.steps] == [0, 0, 0, 3, 3, 3, *range(6, 12)]


@pytest.mark.parametrize(
    ("config", "is_off"),
    [
        (DeepCacheConfig(), False),
        (DeepCacheConfig(cache_interval=1), True),
        (DeepCacheConfig(start=1.0), True),
        (DeepCacheConfig(start=0.6, end=0.4), True),
    ],
)
def test_off(config, is_off):
    assert config.is_off == is_off
    assert not (is_off and lay_out(config).shallow)


@pytest.mark.parametrize(
    "settings",
    [
        {"cache_interval": 0},
        {"cache_branch_id": -1},
        {"start": -0.1},
        {"end": 1.1},
        {"start": float("nan")},
    ],
)
def test_settings_out_of_range(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=f"{name} is "):
        DeepCacheConfig(**settings)


def test_the_published_cut_of_sdxl():
    """Nine blocks a side: input blocks 0 and 1 and the last two output blocks run in every step."""
    split = split_blocks(0, 9)
    assert (split.last_input, split.first_output) == (1, 7)
    shallow = [("input", 0), ("input", 1), ("output", 7), ("output", 8)]
    deep = [("input", 2), ("input", 8), ("middle", 0), ("output", 0), ("output", 6)]
    assert not any(split.is_deep(block) for block in shallow)
    assert all(split.is_deep(block) for block in deep)


@pytest.mark.parametrize("blocks", [2, 3, 9, 12])
def test_every_cut_keeps_as_many_blocks_on_the_way_out_as_in(blocks):
    for branch in range(branch_count(blocks, has_middle=True)):
        split = split_blocks(branch, blocks)
        assert split.last_input == blocks - 1 - split.first_output == branch + 1
        assert split.first_output >= 0


@pytest.mark.parametrize("blocks", [2, 3, 9, 12])
def test_without_a_middle_the_deepest_cut_leaves_nothing_out(blocks):
    assert branch_count(blocks, has_middle=False) == branch_count(blocks, has_middle=True) - 1


def self_letters(config, gate_step, shallow):
    schedule = build_schedule(config, STEPS, gate_step, shallow)
    return "".join(LETTERS[plan.self_attention] for plan in schedule.steps)


def test_self_attention_due_in_a_shallow_step_is_made_in_the_next_full_one():
    """Warm-up ends at 2 and every 5th step is due: 2 and 5, both shallow at interval 3, are made in 3 and 6."""
    config = GateConfig(sp_interval=5, warm_up=2)
    plain = self_letters(config, 10, frozenset())
    assert plain == "..+==+===..."
    shallow = lay_out(gate_step=10).shallow
    assert shallow == {1, 2, 4, 5, 7, 8, 10, 11}
    assert self_letters(config, 10, shallow) == "...+=.+==..."


@pytest.mark.parametrize("interval", [2, 3, 4, 5])
def test_no_deep_attention_is_reused_beyond_what_was_due(interval):
    """Whatever a full step reuses was captured by a full step since the latest one that was due."""
    for sp_interval, fi_interval, gate in product((1, 2, 3, 5), (1, 2, 3, 4), range(1, STEPS)):
        shallow = lay_out(DeepCacheConfig(cache_interval=interval), gate_step=gate).shallow
        config = GateConfig(sp_interval=sp_interval, fi_interval=fi_interval, warm_up=1)
        due = [plan.self_attention for plan in build_schedule(config, STEPS, gate).steps]
        done = [plan.self_attention for plan in build_schedule(config, STEPS, gate, shallow).steps]
        for step in set(range(STEPS)) - shallow:
            if done[step] is Action.REUSE:
                latest_due = max(earlier for earlier in range(step) if due[earlier] is Action.CAPTURE)
                assert any(done[s] is Action.CAPTURE and s not in shallow for s in range(latest_due, step))
