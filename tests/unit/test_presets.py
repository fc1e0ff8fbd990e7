import itertools

import pytest

from tgate_core.gate.presets import FEW_STEP, GENERIC, PRESETS, ROWS, PresetConfig, PresetRow


def resolved(family, preset, steps, has_guidance=True):
    """(gate, sp_interval, fi_interval, warm_up) of a run."""
    config = PresetConfig(family, preset).resolve(steps, has_guidance)
    return config.gate, config.sp_interval, config.fi_interval, config.warm_up


@pytest.mark.parametrize(
    ("family", "published", "gentle", "fast"),
    [
        ("sd15", (5, 1, 1, 0), (10, 1, 1, 0), (5, 3, 1, 1)),
        ("sd21", (5, 1, 1, 0), (10, 1, 1, 0), (5, 3, 1, 1)),
        ("sdxl", (10, 5, 1, 2), (10, 1, 1, 0), (5, 3, 1, 1)),
        ("playground-2.5", (10, 5, 1, 2), (10, 1, 1, 0), (5, 3, 1, 1)),
        ("svd", (10, 5, 1, 2), (10, 1, 1, 0), (5, 3, 1, 1)),
        (GENERIC, (15, 5, 1, 2), (15, 1, 1, 0), (10, 3, 1, 2)),
    ],
)
def test_at_25_steps_the_published_rows_hold_to_the_letter(family, published, gentle, fast):
    assert resolved(family, "as published", 25) == published
    assert resolved(family, "balanced", 25) == published
    assert resolved(family, "gentle", 25) == gentle
    assert resolved(family, "fast", 25) == fast


@pytest.mark.parametrize(
    ("preset", "steps", "expected"),
    [
        ("balanced", 10, (4, 2, 1, 1)),
        ("balanced", 20, (8, 4, 1, 2)),
        ("balanced", 50, (20, 10, 1, 4)),
        ("balanced", 100, (40, 20, 1, 8)),
        ("gentle", 10, (4, 1, 1, 0)),
        ("gentle", 20, (8, 1, 1, 0)),
        ("gentle", 50, (20, 1, 1, 0)),
        ("gentle", 100, (40, 1, 1, 0)),
        ("fast", 10, (2, 2, 1, 0)),  # 1.2 would be no reuse at all: an interval that reuses stays above 1
        ("fast", 20, (4, 2, 1, 1)),
        ("fast", 50, (10, 6, 1, 2)),
        ("fast", 100, (20, 12, 1, 4)),
    ],
)
def test_sdxl_settings_follow_the_number_of_steps(preset, steps, expected):
    assert resolved("sdxl", preset, steps) == expected


@pytest.mark.parametrize(("steps", "gate", "k"), [(10, 6, 2), (20, 12, 4), (50, 30, 10), (100, 60, 20)])
def test_a_family_without_a_published_row_gets_the_appendix_rule(steps, gate, k):
    assert resolved(GENERIC, "balanced", steps)[:2] == (gate, k)


@pytest.mark.parametrize(
    ("preset", "steps", "gate"),
    [
        ("balanced", 1, 1),
        ("balanced", 2, 1),
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
    assert resolved(family, preset, steps) == (gate, 1, 1, 0)


def test_nine_steps_with_guidance_are_no_longer_few():
    # 9 / 25 of gate 10, interval 5 and warm-up 2: 3.6, 1.8 and 0.72.
    assert resolved("sdxl", "balanced", 9) == (4, 2, 1, 1)


@pytest.mark.parametrize(("steps", "gate"), [(9, 2), (20, 5), (25, 6)])
def test_a_run_without_guidance_is_a_few_step_model_whatever_its_steps(steps, gate):
    assert resolved("sdxl", "balanced", steps, has_guidance=False) == (gate, 1, 1, 0)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("family", ROWS)
def test_settings_only_grow_with_the_steps_and_never_gate_the_first_step(family, preset):
    for start, stop in ((1, 9), (9, 200)):
        settings = [resolved(family, preset, steps) for steps in range(start, stop)]
        for before, after in itertools.pairwise(settings):
            assert all(now <= later for now, later in zip(before, after, strict=True))
        assert all(gate >= 1 and sp >= 1 and fi >= 1 for gate, sp, fi, _ in settings)


@pytest.mark.parametrize(
    ("preset", "guidance"),
    [("balanced", "cached_delta"), ("gentle", "cached_delta"), ("fast", "cached_delta"), ("as published", "uncond")],
)
@pytest.mark.parametrize("steps", [4, 25])
def test_only_the_published_preset_drops_guidance_as_published(preset, guidance, steps):
    assert PresetConfig("sdxl", preset).resolve(steps, True).guidance == guidance


@pytest.mark.parametrize(("preset", "guidance"), [("balanced", "cached_delta"), ("as published", "cond_mean")])
@pytest.mark.parametrize("steps", [4, 25])
def test_the_published_video_loader_goes_on_with_the_picture(preset, guidance, steps):
    assert PresetConfig("svd", preset).resolve(steps, True).guidance == guidance


@pytest.mark.parametrize(
    ("family", "preset", "steps", "gates"),
    [
        ("sd15", "balanced", 25, False),
        ("sd15", "fast", 25, True),
        ("sdxl", "balanced", 25, True),
        ("sdxl", "gentle", 25, False),
        ("sdxl", "balanced", 4, False),
    ],
)
def test_self_attention_is_left_alone_where_no_interval_reuses_it(family, preset, steps, gates):
    config = PresetConfig(family, preset).resolve(steps, True)
    assert config.self_attention is gates
    assert config.cross_attention


def test_an_interval_of_either_phase_gates_self_attention():
    assert not PresetRow(steps=25, gate=5).gates_self_attention
    assert PresetRow(steps=25, gate=5, sp_interval=2).gates_self_attention
    assert PresetRow(steps=25, gate=5, fi_interval=2).gates_self_attention


def test_both_intervals_of_a_row_scale():
    assert PresetRow(steps=10, gate=4, sp_interval=5, fi_interval=3, warm_up=2).scaled(20) == PresetRow(20, 8, 10, 6, 4)
    assert PresetRow(steps=10, gate=4, sp_interval=5, fi_interval=3, warm_up=2).scaled(2) == PresetRow(2, 1, 2, 2, 0)


def test_the_default_preset_is_balanced():
    assert PresetConfig("sdxl").preset == "balanced"
    assert FEW_STEP in ROWS


@pytest.mark.parametrize("preset", [None, 3, ["balanced"], {}])
def test_a_preset_is_a_word(preset):
    with pytest.raises(ValueError, match=r"^TGATE: preset is .*; choose one of: balanced, "):
        PresetConfig("sdxl", preset)


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"^TGATE: preset is 'turbo'; choose one of: balanced, gentle, fast, as pub"):
        PresetConfig("sdxl", "turbo")
