"""What presets mean in a run: the paper's settings to the letter, or as many guided steps as a budget allows."""

import itertools

import pytest

from tgate_core.engine.technique import RunContext
from tgate_core.forecast.schedule import forecast_steps
from tgate_core.forecast.technique import Forecast
from tgate_core.gate.refresh import spread_steps
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


def rows_of(plan, sigmas):
    """Of the plain run's rows, the share that runs."""
    if plan.gate is None:  # all that run are guided
        return 1 - len(forecast_steps(plan.forecast, sigmas)) / (len(sigmas) - 1)
    steps = len(sigmas) - 1
    guided = spread_steps(steps, plan.gate.guided_steps)
    predicted = forecast_steps(plan.forecast, sigmas, guided) if plan.forecast else ()
    assert not set(guided) & set(predicted)
    return (len(guided) + steps - len(predicted)) / (2 * steps)


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
        ("euler", flow, "share"),
        ("dpmpp_2m", falling, "share"),
        ("dpmpp_2m", flow, "share"),
        ("er_sde", falling, "with_noise"),
        ("euler_ancestral", flow, "with_noise"),
        ("heun", flow, "without_forecast"),
        ("", falling, "without_forecast"),
    ],
)
@pytest.mark.parametrize("steps", RUNS)
def test_a_preset_keeps_to_its_budget(preset, sampler, schedule, name, steps):
    sigmas = schedule(steps)
    plan = PresetConfig("sdxl", preset).resolve(sigmas, True, sampler)
    share, is_held = getattr(BUDGETS[preset], name), name == "without_forecast"
    if schedule is flow and name == "share":
        # Few steps that run lead predictions astray there; those of `fast` always do.
        is_held = preset == "fast" or int(steps * share + 1e-9) < {"euler": 14, "dpmpp_2m": 18}[sampler]
    # In short runs the first and last steps, gaps that grow slowly, and one that is guided, may cost more.
    short = max(share + 0.03, 0.45)
    over = next(least for most, least in ((11, 0.78), (18, 0.58), (24, short), (100, 0)) if steps <= most)
    least = 0.5 + 1 / (2 * steps) if name == "without_forecast" else over
    assert rows_of(plan, sigmas) <= max(share, least) + 1e-9
    if steps >= 12:  # in fewer, steps of any schedule are long
        assert (plan.gate is None, plan.forecast is None) == (not is_held, name == "without_forecast")


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("balanced", "---x-x-x-x-x-x-x-x-x-x---"),
        ("gentle", "---x-x-x-x-x-x-x---------"),
        ("fast", "---x-x-xx-xx-xxx-xxx-xxx-"),
    ],
)
def test_25_steps(preset, expected):
    sigmas = falling(25)
    predicted = forecast_steps(PresetConfig("sdxl", preset).resolve(sigmas, True).forecast, sigmas)
    assert "".join("x" if step in predicted else "-" for step in range(25)) == expected


@pytest.mark.parametrize(
    ("sampler", "last", "is_held"), [("dpmpp_2m", 8, True), ("dpmpp_2m", 1, False), ("euler", 8, False)]
)
def test_where_steps_are_long_and_longer_late_a_multistep_sampler_holds_the_difference(sampler, last, is_held):
    sigmas = [1.25**-step * 14 for step in range(14)]
    plan = PresetConfig("sdxl").resolve([*sigmas, sigmas[-1] / 1.25 / last, 0.0], True, sampler)
    assert (plan.gate is not None) is is_held
    if is_held:
        assert plan.forecast == HELD_FORECAST


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
    ("sampler", "step_cache", "predicts"),
    [
        ("euler", "", True),
        ("er_sde", "", True),
        ("euler_ancestral", "", True),
        ("heun", "", False),
        ("", "", False),
        ("euler", "EasyCache", False),
    ],
)
def test_steps_are_predicted_with_samplers_that_allow_it(sampler, step_cache, predicts):
    made = Preset(PresetConfig("sdxl")).techniques(context(sampler, step_cache))
    assert any(isinstance(one, Forecast) for one in made) is predicts
    assert any(isinstance(one, Gate) for one in made) is not predicts


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
