import dataclasses
import math

import pytest

from tgate_core.engine.storage import CACHE_DEVICES
from tgate_core.gate.config import GATE_UNITS, GUIDANCE_MODES, GateConfig
from tgate_core.gate.refresh import REFRESH_RULES


def test_the_defaults_are_the_published_settings_of_sdxl():
    config = GateConfig()
    assert (config.gate, config.gate_unit) == (10.0, "step")
    assert (config.sp_interval, config.fi_interval, config.warm_up) == (5, 1, 2)
    assert config.cross_attention
    assert config.self_attention
    assert (config.guidance, config.protect_last) == ("uncond", 0)
    assert (config.cache_device, config.cache_limit_mb) == ("auto", 0)
    assert config.refresh == "never"


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        GateConfig().gate = 3.0


@pytest.mark.parametrize("name", ["gate_unit", "guidance", "refresh", "cache_device"])
def test_an_unknown_choice_is_refused_with_the_known_ones(name):
    known = {
        "gate_unit": GATE_UNITS,
        "guidance": GUIDANCE_MODES,
        "refresh": REFRESH_RULES,
        "cache_device": CACHE_DEVICES,
    }[name]
    with pytest.raises(ValueError, match=f"^TGATE: {name} is 'nonsense'") as error:
        GateConfig(**{name: "nonsense"})
    assert all(choice in str(error.value) for choice in known)


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("sp_interval", 1),
        ("fi_interval", 1),
        ("warm_up", 0),
        ("refresh_gap", 1),
        ("protect_last", 0),
        ("cache_limit_mb", 0),
    ],
)
def test_a_count_has_a_least_value(name, least):
    assert getattr(GateConfig(**{name: least}), name) == least
    with pytest.raises(ValueError, match=f"^TGATE: {name} is {least - 1}, but must be {least} or more; use {least} "):
        GateConfig(**{name: least - 1})


@pytest.mark.parametrize("value", ["5", None, [5], True, 2.5])
@pytest.mark.parametrize("name", ["sp_interval", "fi_interval", "warm_up", "protect_last", "cache_limit_mb"])
def test_a_count_is_a_whole_number(name, value):
    with pytest.raises(ValueError, match=f"^TGATE: {name} is .*, but must be a whole number; use "):
        GateConfig(**{name: value})


def test_whole_numbers_and_floats_stand_for_each_other():
    config = GateConfig(gate=3, warm_up=1.0)
    assert (type(config.gate), type(config.warm_up)) == (float, int)
    assert config == GateConfig(gate=3.0, warm_up=1)


@pytest.mark.parametrize("value", [0, "true", None])
@pytest.mark.parametrize("name", ["cross_attention", "self_attention"])
def test_a_switch_is_no_number_and_no_word(name, value):
    with pytest.raises(ValueError, match=f"^TGATE: {name} is .*, but must be true or false"):
        GateConfig(**{name: value})


@pytest.mark.parametrize("gate", ["5", None, [5.0], True])
def test_a_gate_is_a_number(gate):
    with pytest.raises(ValueError, match=r"^TGATE: gate is .*; set it between 0 and 10000\.$"):
        GateConfig(gate=gate)


@pytest.mark.parametrize("gate", [-0.5, 10000.5, math.inf, -math.inf, math.nan])
def test_a_gate_outside_of_its_range_is_refused(gate):
    with pytest.raises(ValueError, match=r"^TGATE: gate is .*; set it between 0 and 10000"):
        GateConfig(gate=gate)


@pytest.mark.parametrize("gate", [0.0, 0.5, 1.0, 1.5, 10000.0])
def test_a_gate_in_steps_may_lie_far_beyond_any_run(gate):
    assert GateConfig(gate=gate, gate_unit="step").gate == gate


@pytest.mark.parametrize("unit", ["fraction of steps", "percent of schedule"])
def test_a_gate_as_a_share_ends_at_one(unit):
    assert GateConfig(gate=0.0, gate_unit=unit).gate == 0.0
    assert GateConfig(gate=1.0, gate_unit=unit).gate == 1.0
    with pytest.raises(ValueError, match=rf"^TGATE: gate is 1\.01, but in '{unit}' .*gate_unit to 'step'\.$"):
        GateConfig(gate=1.01, gate_unit=unit)


@pytest.mark.parametrize(
    ("guidance", "cross", "self_", "nothing"),
    [
        ("keep", False, False, True),
        ("keep", True, False, False),
        ("keep", False, True, False),
        ("uncond", False, False, False),
        ("cond", False, False, False),
        ("cached_delta", False, False, False),
    ],
)
def test_nothing_is_gated_only_without_attentions_and_with_guidance_kept(guidance, cross, self_, nothing):
    config = GateConfig(guidance=guidance, cross_attention=cross, self_attention=self_)
    assert config.gates_nothing is nothing
