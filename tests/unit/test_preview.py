"""The schedule before a run: what the editor is told of a node's settings."""

from __future__ import annotations

from typing import Any

import pytest
from multidict import MultiDict, MultiDictProxy

from tgate_core.forecast.schedule import forecast_steps
from tgate_core.gate.config import GateConfig
from tgate_core.gate.refresh import spread_steps
from tgate_core.gate.schedule import build_schedule
from tgate_core.presets import PRESETS, PUBLISHED_ROWS, PresetConfig
from tgate_core.report.preview import Sampling, preview
from tgate_core.report.timeline import as_groups, planned_cells
from tgate_core.report.work import planned_saving


def ask(node: str = "TGATEApplyAdvanced", **values: Any) -> dict[str, Any]:
    return preview({"node": node, **{name: str(value) for name, value in values.items()}})


def steps_of(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """One value a step."""
    return [group for group in answer["groups"] for _ in range(group["count"])]


def phases(answer: dict[str, Any]) -> list[str]:
    return [cell["phase"] for cell in steps_of(answer)]


class TestAdvanced:
    def test_defaults_are_those_of_the_node_and_of_25_steps(self) -> None:
        config = GateConfig()
        schedule = build_schedule(config, 25, 10)
        expected = as_groups(planned_cells(config, schedule, True))
        flags = {"is_assumed": False, "is_approximate": False, "is_measured": False, "is_by_error": False}
        answer = ask()
        saved = answer.pop("saved")
        assert answer == {"groups": expected, "gate_step": 10, "family": None, "presets": [], **flags}
        assert saved == pytest.approx(planned_saving(planned_cells(config, schedule, True), "sdxl", True), abs=1e-3)

    def test_every_setting_is_read(self) -> None:
        answer = ask(
            gate="0.5",
            gate_unit="fraction of steps",
            sp_interval=2,
            fi_interval=2,
            warm_up=0,
            cross_attention="false",
            self_attention="true",
            guidance="keep",
            protect_last=2,
            cache_device="cpu",
            cache_limit_mb=64,
            steps=10,
        )
        assert phases(answer) == ["planning"] * 5 + ["fidelity"] * 3 + ["protected"] * 2
        assert [cell["self_reused"] for cell in steps_of(answer)] == [0, 1, 0, 1, 0, 1, 0, 1, 0, 0]
        assert not any(cell["cross_reused"] for cell in answer["groups"])
        assert all(cell["guided"] for cell in answer["groups"])

    def test_a_gate_beyond_the_run_is_its_end(self) -> None:
        answer = ask(gate=99, steps=12)
        assert answer["gate_step"] == 12
        assert set(phases(answer)) == {"planning"}

    def test_a_measured_gate_is_known_after_a_run(self) -> None:
        answer = ask(gate=3.5, gate_unit="measured", steps=12)
        assert answer["is_measured"]
        assert answer["gate_step"] == 12
        assert set(phases(answer)) == {"planning"}
        assert not any(cell["self_reused"] for cell in answer["groups"])

    def test_a_node_that_gates_nothing_shows_a_plain_run(self) -> None:
        answer = ask(cross_attention="false", self_attention="false", guidance="keep")
        assert set(phases(answer)) == {"planning"}
        assert all(cell["guided"] for cell in answer["groups"])


class TestPercentOfSchedule:
    @pytest.mark.parametrize(
        ("settings", "gate_step"),
        [
            ({"gate": 0.4}, 8),
            ({"gate": 0.0}, 0),
            ({"gate": 1.0}, 20),
            # The second half of the schedule: what lies before it is past.
            ({"gate": 0.4, "denoise": 0.5}, 0),
            ({"gate": 0.75, "denoise": 0.5}, 10),
            # The first half alone, as of a split sampler.
            ({"gate": 0.4, "ends_at": 0.5}, 16),
            ({"gate": 0.6, "ends_at": 0.5}, 20),
        ],
    )
    def test_the_run_covers_a_part_of_the_schedule(self, settings: dict[str, Any], gate_step: int) -> None:
        answer = ask(gate_unit="percent of schedule", steps=20, **settings)
        assert answer["gate_step"] == gate_step
        assert answer["is_approximate"]

    def test_rounding_never_moves_the_gate(self) -> None:
        for steps in range(1, 101):
            for step in range(steps):
                answer = ask(gate_unit="percent of schedule", gate=step / steps, steps=steps)
                assert answer["gate_step"] == step


class TestPreset:
    @pytest.mark.parametrize("preset", PRESETS)
    @pytest.mark.parametrize("family", PUBLISHED_ROWS)
    def test_a_known_family_is_shown_as_it_will_run(self, family: str, preset: Any) -> None:
        answer = ask("TGATEApply", preset=preset, family=family, steps=25)
        sigmas = Sampling(25).sigmas
        plan = PresetConfig(family, preset).resolve(sigmas, has_guidance=True)
        assert answer["gate_step"] == (plan.gate.gate if plan.gate else 25)
        guided = spread_steps(25, plan.gate.guided_steps) if plan.gate else ()
        predicted = forecast_steps(plan.forecast, sigmas, guided) if plan.forecast else set()
        assert [step for step, cell in enumerate(steps_of(answer)) if cell["predicted"]] == sorted(predicted)
        assert not answer["is_assumed"]

    @pytest.mark.parametrize("family", ["", "something new"])
    def test_an_unknown_one_is_taken_for_sdxl_and_said_so(self, family: str) -> None:
        answer = ask("TGATEApply", family=family)
        assert answer["is_assumed"]
        assert answer["groups"] == ask("TGATEApply", family="sdxl")["groups"]

    @pytest.mark.parametrize("node", ["TGATEApply", "TGATEApplyAdvanced"])
    def test_where_attention_cannot_be_gated_only_guidance_is_shown(self, node: str) -> None:
        gate = {"gate": 3, "guidance": "cached_delta"} if node == "TGATEApplyAdvanced" else {}
        cells = steps_of(ask(node, family="guidance alone", steps=25, sampler="heun", **gate))
        assert not any(cell["self_reused"] or cell["cross_reused"] for cell in cells)
        assert {cell["guided"] for cell in cells if cell["phase"] == "fidelity"} == {False}

    @pytest.mark.parametrize("settings", [{}, {"guidance": "cond_mean"}, {"gate_unit": "measured", "guidance": "cond"}])
    def test_what_such_a_model_cannot_follow_shows_a_plain_run(self, settings: dict[str, Any]) -> None:
        assert set(phases(ask(family="guidance alone", **settings))) == {"planning"}

    def test_each_preset_has_its_saving_and_equal_ones_are_named(self) -> None:
        rows = ask("TGATEApply", family="sd15")["presets"]
        assert [row["name"] for row in rows] == list(PRESETS)
        for row in rows:
            answer = ask("TGATEApply", family="sd15", preset=row["name"])
            assert answer["saved"] == row["saved"] > 0
        # Without guidance, what is left of it tells no presets apart.
        run = {"steps": 4, "guided": 0}
        equal = [row for row in ask("TGATEApply", **run)["presets"] if row["same_as"] is not None]
        assert equal
        for row in equal:
            one, other = (ask("TGATEApply", preset=name, **run)["groups"] for name in (row["name"], row["same_as"]))
            assert one == other

    def test_guidance_alone_saves_half_of_each_step_that_is_not_guided_and_all_of_those_predicted(self) -> None:
        answer = ask("TGATEApply", family="guidance alone", steps=20)
        rows = sum(0 if cell["predicted"] else 2 if cell["guided"] else 1 for cell in steps_of(answer))
        assert answer["saved"] == pytest.approx(1 - rows / 40, abs=1e-3)
        assert answer["family"] == "guidance alone"

    def test_joint_attention_that_is_reused_saves_less_where_it_stands_within_blocks(self) -> None:
        families = ("guidance alone", "inline joint attention", "joint attention")
        saved = [ask(family=family, steps=20, gate=3, guidance="cached_delta", fi_interval=2) for family in families]
        nothing, within_blocks, modules = (answer["saved"] for answer in saved)
        assert 0 < nothing < within_blocks < modules

    def test_without_guidance_no_step_is_guided(self) -> None:
        assert not any(cell["guided"] for cell in ask("TGATEApply", guided=0)["groups"])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"node": "KSampler"}, "KSampler"),
        ({"node": "TGATEApply", "preset": "best"}, "preset is 'best'"),
        ({"gate_unit": "hours"}, "gate_unit is 'hours'"),
        ({"gate": "2", "gate_unit": "fraction of steps"}, "must be between 0 and 1"),
        ({"gate": "soon"}, "gate is 'soon'"),
        ({"gate": "nan"}, "gate is 'nan'; give a number"),
        ({"gate": "1e400"}, "gate is inf; set it between 0 and 10000"),
        ({"sp_interval": "1.5"}, "sp_interval is 1.5, but must be a whole number"),
        ({"sp_interval": "0"}, "sp_interval is 0"),
        ({"cross_attention": "maybe"}, "cross_attention is 'maybe'"),
        ({"steps": "0"}, "steps is '0'; the schedule is shown for runs of 1 to 1000 steps"),
        ({"steps": "1001"}, "steps is '1001'; the schedule is shown for runs of 1 to 1000 steps"),
        ({"steps": "2.5"}, "steps is '2.5'; the schedule is shown for runs of 1 to 1000 steps"),
        ({"steps": "9" * 310}, "steps is '9{60}'...; give a number of 30 digits at most"),
        ({"sp_interval": "9" * 5000}, "sp_interval is '9{60}'...; give a number of 30 digits at most"),
        ({"steps": "\u0662\u0665"}, "steps is '\u0662\u0665'; give a number"),
        ({"steps": " 25"}, "steps is ' 25'; give a number"),
        ({"steps": "2_5"}, "steps is '2_5'; give a number"),
        ({"steps": ""}, "steps is ''; give a number"),
        ({"node": "n" * 10**6}, "node is 'n{60}'...; there is"),
        ({"guidance": "n" * 10**6}, "guidance is 'n{60}'...; choose one of"),
        ({"denoise": "0"}, "begin before it ends"),
        ({"denoise": "1.5"}, "begin before it ends"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_bad_values_are_named(values: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        preview({"node": "TGATEApplyAdvanced", **values})


def test_of_two_values_for_one_name_none_counts() -> None:
    query = MultiDictProxy(MultiDict([("node", "TGATEApply"), ("steps", "5"), ("steps", "50")]))
    with pytest.raises(ValueError, match=r"^TGATE: 'steps' is given 2 times; give it once\.$"):
        preview(query)


def test_other_names_count_for_nothing() -> None:
    assert ask(control_after_generate="fixed") == ask()


def test_a_long_run_is_told_in_a_few_groups() -> None:
    groups = ask("TGATEApply", preset="as published", family="sd15", steps=1000)["groups"]
    assert [group["count"] for group in groups] == [200, 800]


def test_stand_in_noise_levels_fall_from_begin_to_end() -> None:
    assert Sampling(steps=4, begin=0.5).sigmas == (0.5, 0.375, 0.25, 0.125, 0.0)
