"""What presets mean in a run: the paper's settings to the letter, or as many guided steps as a budget allows."""

import itertools

import pytest

from tgate_core.engine.technique import RunContext
from tgate_core.forecast.schedule import forecast_steps
from tgate_core.forecast.technique import Forecast
from tgate_core.gate.refresh import spread_steps
from tgate_core.gate.schedule import needed_steps, refreshed_steps
from tgate_core.gate.technique import Gate
from tgate_core.presets import BUDGETS, GENERIC, HELD_FORECAST, PRESETS, PUBLISHED_ROWS, Preset, PresetConfig

EARNED = tuple(BUDGETS)
RUNS = [*range(9, 61), 100]


def falling(steps, most=14.6, least=0.03):
    """Noise levels of a run, in steps of the same length in log sigma but for the last."""
    return [most * (least / most) ** (step / max(1, steps - 1)) for step in range(steps)] + [0.0]


def flow(steps):
    """Noise levels of a run with rectified flow."""
    return [1 - step / steps for step in range(steps + 1)]


def published(family, steps, has_guidance=True):
    """(gate, sp_interval, fi_interval, warm_up) of a run."""
    config = PresetConfig(family, "as published").resolve(falling(steps), has_guidance).gate
    return config.gate, config.sp_interval, config.fi_interval, config.warm_up


def kinds_of(plan, sigmas):
    """Each step of a run: g with both branches, c with one, p predicted."""
    config, steps = plan.gate, len(sigmas) - 1
    gate = steps if config is None else int(config.gate)
    refreshed = frozenset() if config is None else refreshed_steps(config, sigmas, gate, True)
    needed = frozenset() if config is None else needed_steps(config, gate, refreshed)
    predicted = forecast_steps(plan.forecast, sigmas, needed) if plan.forecast else ()
    guided = refreshed.union(range(gate))
    return "".join("p" if step in predicted else "g" if step in guided else "c" for step in range(steps))


def rows_of(plan, sigmas):
    """Of the plain run's rows, the share that runs."""
    kinds = kinds_of(plan, sigmas)
    return (2 * kinds.count("g") + kinds.count("c")) / (2 * len(kinds))


@pytest.mark.parametrize(
    ("family", "row"),
    [
        ("sd15", (5, 1, 1, 0)),
        ("sd21", (5, 1, 1, 0)),
        ("sdxl", (10, 5, 1, 2)),
        ("playground-2.5", (10, 5, 1, 2)),
        ("svd", (10, 5, 1, 2)),
        ("pixart", (15, 3, 1, 2)),
        (GENERIC, (15, 5, 1, 2)),
    ],
)
def test_at_25_steps_the_published_rows_hold_to_the_letter(family, row):
    assert published(family, 25) == row


@pytest.mark.parametrize(
    ("steps", "expected"), [(10, (4, 2, 1, 1)), (20, (8, 4, 1, 2)), (50, (20, 10, 1, 4)), (100, (40, 20, 1, 8))]
)
def test_published_settings_follow_the_number_of_steps(steps, expected):
    assert published("sdxl", steps) == expected


@pytest.mark.parametrize(("steps", "gate", "k"), [(10, 6, 2), (20, 12, 4), (50, 30, 10), (100, 60, 20)])
def test_a_family_without_a_published_row_gets_the_appendix_rule(steps, gate, k):
    assert published(GENERIC, steps)[:2] == (gate, k)


@pytest.mark.parametrize(
    ("preset", "steps", "gate"),
    [
        ("balanced", 1, 1),
        ("balanced", 4, 1),
        ("balanced", 6, 2),
        ("balanced", 8, 2),
        ("gentle", 4, 2),
        ("gentle", 8, 4),
        ("fast", 4, 1),
        ("as published", 4, 1),
    ],
)
@pytest.mark.parametrize("family", ["sdxl", "sd15", GENERIC])
def test_up_to_eight_steps_every_family_uses_the_few_step_row(family, preset, steps, gate):
    plan = PresetConfig(family, preset).resolve(falling(steps), True)
    assert (plan.gate.gate, plan.gate.sp_interval, plan.gate.refresh, plan.forecast) == (gate, 1, "never", None)


@pytest.mark.parametrize(("steps", "gate"), [(9, 2), (20, 5), (25, 6)])
@pytest.mark.parametrize("preset", ["balanced", "as published"])
def test_a_run_without_guidance_is_a_few_step_model_whatever_its_steps(preset, steps, gate):
    plan = PresetConfig("sdxl", preset).resolve(falling(steps), has_guidance=False)
    assert (plan.gate.gate, plan.gate.refresh, plan.forecast) == (gate, "never", None)


@pytest.mark.parametrize("family", PUBLISHED_ROWS)
def test_published_settings_only_grow_with_the_steps_and_never_gate_the_first_step(family):
    for start, stop in ((1, 9), (9, 200)):
        settings = [published(family, steps) for steps in range(start, stop)]
        for before, after in itertools.pairwise(settings):
            assert all(now <= later for now, later in zip(before, after, strict=True))
        assert all(gate >= 1 and sp >= 1 and fi >= 1 for gate, sp, fi, _ in settings)


@pytest.mark.parametrize("preset", EARNED)
@pytest.mark.parametrize(
    ("sampler", "schedule", "name"),
    [
        ("euler", falling, "share"),
        ("euler", flow, "with_flow"),
        ("dpmpp_2m", falling, "share"),
        ("dpmpp_2m", flow, "with_flow"),
        ("er_sde", falling, "with_noise"),
        ("er_sde", flow, "with_noise"),
        ("euler_ancestral", falling, "with_noise"),
        ("euler_ancestral", flow, "with_noise"),
        ("heun", flow, "without_forecast"),
        ("", falling, "without_forecast"),
    ],
)
@pytest.mark.parametrize("steps", RUNS)
def test_a_preset_keeps_to_its_budget(preset, sampler, schedule, name, steps):
    sigmas = schedule(steps)
    plan = PresetConfig("sdxl", preset).resolve(sigmas, True, sampler)
    share = getattr(BUDGETS[preset], name)
    # In short runs the first and last steps, and one that is guided, may cost more.
    least = 0.5 + 1 / (2 * steps) if name == "without_forecast" else 0.5 if steps < 25 else 0
    over = 0.11 if steps < 14 else 0.03 if steps < 25 else 0
    assert rows_of(plan, sigmas) <= max(share + over, least) + 1e-9
    assert rows_of(plan, sigmas) > share - 2 / steps - (0.02 if schedule is flow else 0)


@pytest.mark.parametrize(
    ("sampler", "schedule", "preset", "expected"),
    [
        ("euler", falling, "balanced", "ggggpgpgpgppgpgppgppggggg"),
        ("euler", falling, "gentle", "gggggggpgpgpggppgpgpggggg"),
        ("euler", falling, "fast", "gggpgpgpppgpppgppppgppcpp"),
        ("euler_ancestral", falling, "balanced", "gggggpgpgpgpgpgppgpgppggg"),
        ("er_sde", falling, "fast", "gggpgppgppgppgppgppgpppgg"),
        ("er_sde", flow, "fast", "gggpgpgppgppgppgppgppcccc"),
        ("dpmpp_2m_sde", flow, "balanced", "gggpgpgppgppgppgppggggggg"),
        ("euler", flow, "balanced", "gggpgpgppgppgppgppggggggg"),
        ("euler", flow, "gentle", "gggggpggpgpgpgppgpggggggg"),
        ("dpmpp_2m", flow, "gentle", "ggggpgpgpgpgpgppggggggggg"),
        ("euler_ancestral", flow, "balanced", "gggpgpgppgppgppgppggggggg"),
        ("euler_ancestral", flow, "fast", "gggppgppgppgppgpppgpppggg"),
        ("heun", flow, "balanced", "ggccgccgcccgccccgcccccccc"),
    ],
)
def test_25_steps(sampler, schedule, preset, expected):
    sigmas = schedule(25)
    assert kinds_of(PresetConfig("sdxl", preset).resolve(sigmas, True, sampler), sigmas) == expected


@pytest.mark.parametrize(
    ("sampler", "last", "is_late"), [("dpmpp_2m", 8, True), ("dpmpp_2m", 1, False), ("euler", 8, False)]
)
def test_where_steps_are_long_and_longer_late_a_multistep_sampler_gets_a_late_gate(sampler, last, is_late):
    sigmas = [1.25**-step * 14 for step in range(14)]
    plan = PresetConfig("sdxl").resolve([*sigmas, sigmas[-1] / 1.25 / last, 0.0], True, sampler)
    assert (plan.gate is not None) is is_late
    if is_late:
        assert (plan.gate.gate, plan.gate.guidance, plan.gate.refresh) == (12, "cached_delta", "never")
        assert plan.forecast.running == (0, 1, 2, 3, 4, 6, 8, 11, 12, 14)


@pytest.mark.parametrize("preset", EARNED)
@pytest.mark.parametrize("schedule", [falling, flow])
@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "er_sde", "euler_ancestral"])
@pytest.mark.parametrize("steps", RUNS)
def test_the_first_two_steps_of_a_plan_are_guided_and_gaps_stay_short(preset, schedule, sampler, steps):
    sigmas = schedule(steps)
    kinds = kinds_of(PresetConfig("sdxl", preset).resolve(sigmas, True, sampler), sigmas)
    assert kinds[0] == "g"
    assert len(kinds) == steps
    assert "p" in kinds
    assert max(map(len, kinds.replace("c", "g").split("g"))) <= 5


@pytest.mark.parametrize("steps", [15, 22, 24])
@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m"])
def test_with_flow_and_few_steps_that_run_the_difference_is_held_and_renewed(steps, sampler):
    sigmas = flow(steps)
    plan = PresetConfig("sdxl", "fast").resolve(sigmas, True, sampler)
    assert plan.forecast == HELD_FORECAST
    assert plan.gate.refresh == "growing gaps"


def test_where_nothing_is_predicted_the_difference_is_held():
    plan = PresetConfig("sdxl").resolve(falling(25), True, "heun")
    assert spread_steps(25, plan.gate.guided_steps) == (0, 1, 4, 7, 11, 16)
    assert (plan.gate.gate, plan.gate.guidance) == (2, "cached_delta")


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "euler_ancestral", "heun"])
@pytest.mark.parametrize("family", ["sd15", "sdxl", GENERIC])
@pytest.mark.parametrize("schedule", [falling, flow])
@pytest.mark.parametrize("steps", [steps for steps in RUNS if steps >= 12])
def test_no_two_presets_do_the_same(family, steps, schedule, sampler):
    sigmas = schedule(steps)
    plans = [PresetConfig(family, preset).resolve(sigmas, True, sampler) for preset in PRESETS]
    does = {(plan.gate, plan.forecast and forecast_steps(plan.forecast, sigmas)) for plan in plans}
    assert len(does) == len(PRESETS)


@pytest.mark.parametrize("steps", [4, 25])
def test_the_published_video_loader_goes_on_with_the_picture(steps):
    assert PresetConfig("svd", "as published").resolve(falling(steps), True).gate.guidance == "cond_mean"


@pytest.mark.parametrize("steps", [4, 25])
def test_the_published_preset_drops_guidance(steps):
    assert PresetConfig("sdxl", "as published").resolve(falling(steps), True).gate.guidance == "uncond"


def context(sampler="euler", step_cache=""):
    sigmas = (*(0.8**step for step in range(25)), 0.0)
    return RunContext(sigmas, True, None, None, None, sampler=sampler, step_cache=step_cache)


@pytest.mark.parametrize(
    ("sampler", "step_cache", "predicts", "is_gated"),
    [
        ("euler", "", True, False),
        ("er_sde", "", True, True),
        ("euler_ancestral", "", True, False),
        ("heun", "", False, True),
        ("", "", False, True),
        ("euler", "EasyCache", False, True),
    ],
)
def test_steps_are_predicted_with_samplers_that_allow_it(sampler, step_cache, predicts, is_gated):
    made = Preset(PresetConfig("sdxl")).techniques(context(sampler, step_cache))
    assert any(isinstance(one, Forecast) for one in made) is predicts
    assert any(isinstance(one, Gate) for one in made) is is_gated


def test_of_a_network_that_is_not_gated_whole_guidance_is_left():
    assert Preset(PresetConfig(GENERIC, "as published")).within("joint attention") is None
    (gate,) = Preset(PresetConfig(GENERIC)).within("guidance alone").techniques(context("heun"))
    assert (gate.settings.cross_attention, gate.settings.self_attention) == (False, False)


def test_the_default_preset_is_balanced():
    assert PresetConfig("sdxl").preset == "balanced"


@pytest.mark.parametrize("preset", [None, 3, ["balanced"], {}])
def test_a_preset_is_a_word(preset):
    with pytest.raises(ValueError, match=r"^TGATE: preset is .*; choose one of: balanced, "):
        PresetConfig("sdxl", preset)


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"^TGATE: preset is 'turbo'; choose one of: balanced, gentle, fast, as pub"):
        PresetConfig("sdxl", "turbo")


@pytest.mark.parametrize("preset", EARNED)
@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "er_sde", "euler_ancestral", "heun"])
def test_the_end_of_a_run_is_not_taken_for_rectified_flow(preset, sampler):
    """A hires pass begins below noise level 1: what its model is shows where its levels begin."""
    low = [0.9 * 0.8**step for step in range(20)] + [0.0]
    high = [10 * sigma for sigma in low]
    config = PresetConfig("sdxl", preset)
    assert config.resolve(low, True, sampler, most_noise=1e9) == config.resolve(high, True, sampler)


def test_a_preset_asks_the_model_for_its_highest_noise_level():
    sigmas = tuple(0.9 * 0.8**step for step in range(25))
    made = {
        most: Preset(PresetConfig("sdxl", "fast")).techniques(
            RunContext(
                sigmas, True, None, None, None, sampler="euler", percent_to_sigma=lambda percent, most=most: most
            )
        )
        for most in (1.0, 1e9)
    }
    assert made[1.0] != made[1e9]
