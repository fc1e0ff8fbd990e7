"""What really runs, attention by attention and call by call, against the table of the method."""

from __future__ import annotations

import comfy.samplers
import pytest
import tiny
from record import recording

STEPS = 8
ATTENTIONS = 7  # of each kind in the tiny model


@pytest.fixture(scope="module")
def model():
    return tiny.sd15()


def published_self_attention(step, gate, sp_interval, fi_interval, warm_up):
    """The table, read row by row; True where self-attention is computed."""
    if step < gate - 1:
        return step <= warm_up or step % sp_interval == 0
    return step == gate - 1 or step % fi_interval == 0


@pytest.mark.parametrize("gate", [1, 3, 5, 7])
@pytest.mark.parametrize(("sp_interval", "fi_interval", "warm_up"), [(1, 1, 0), (3, 1, 2), (2, 2, 1), (5, 3, 0)])
def test_the_published_table_is_what_runs(model, gated, gate, sp_interval, fi_interval, warm_up):
    patched = gated(model, gate=float(gate), sp_interval=sp_interval, fi_interval=fi_interval, warm_up=warm_up)
    with recording(model, patched) as record:
        tiny.sample(patched, steps=STEPS)
    self_attention = [published_self_attention(step, gate, sp_interval, fi_interval, warm_up) for step in range(STEPS)]
    assert record.per_call("self_attention") == [ATTENTIONS * computed for computed in self_attention]
    assert record.per_call("cross_attention") == [ATTENTIONS * (step < gate) for step in range(STEPS)]
    assert [call.branches for call in record.calls] == [[1, 0]] * gate + [[1]] * (STEPS - gate)


@pytest.mark.parametrize(
    ("guidance", "after_the_gate"), [("uncond", [1]), ("cond", [0]), ("cached_delta", [0]), ("keep", [1, 0])]
)
def test_guidance_decides_which_branch_runs(model, gated, guidance, after_the_gate):
    patched = gated(model, guidance=guidance)
    with recording(model, patched) as record:
        tiny.sample(patched, steps=STEPS)
    assert [call.branches for call in record.calls] == [[1, 0]] * 4 + [after_the_gate] * 4
    assert record.per_call("cross_attention") == [ATTENTIONS] * 4 + [0] * 4


@pytest.mark.parametrize(
    ("settings", "cross_attention"),
    [
        ({"gate": 0.5, "gate_unit": "fraction of steps"}, [7] * 4 + [0] * 4),
        ({"gate": 0.31, "gate_unit": "fraction of steps"}, [7] * 2 + [0] * 6),
        ({"gate": 0.375, "gate_unit": "percent of schedule"}, [7] * 3 + [0] * 5),  # exactly on a sigma
        ({"gate": 0.4, "gate_unit": "percent of schedule"}, [7] * 4 + [0] * 4),
        ({"gate": 4.0, "protect_last": 2}, [7] * 4 + [0] * 2 + [7] * 2),
        ({"gate": 4.0, "cross_attention": False}, [7] * 8),
    ],
)
def test_gate_unit_protection_and_switches(model, gated, settings, cross_attention):
    patched = gated(model, **settings)
    with recording(model, patched) as record:
        tiny.sample(patched, steps=STEPS, scheduler="sgm_uniform")
    assert record.per_call("cross_attention") == cross_attention
    is_full = [computed > 0 for computed in cross_attention] if "cross_attention" not in settings else [True] * 4
    assert record.batches[: len(is_full)] == [2 if full else 1 for full in is_full]


def test_without_guidance_the_cond_branch_is_gated_alone(model, gated):
    patched = gated(model, gate=2.0)
    with recording(model, patched) as record:
        tiny.sample(patched, steps=4, cfg=1.0)
    assert [call.branches for call in record.calls] == [[0]] * 4
    assert record.per_call("cross_attention") == [ATTENTIONS] * 2 + [0] * 2


def test_a_gate_at_step_0_computes_and_captures_the_first_call(model, gated):
    patched = gated(model, gate=0.0)
    with recording(model, patched) as record:
        tiny.sample(patched, steps=4)
    assert record.batches == [2, 1, 1, 1]
    assert record.per_call("cross_attention") == [ATTENTIONS, 0, 0, 0]


@pytest.mark.parametrize(("preset", "running", "behind"), [("gentle", 18, 0), ("balanced", 15, 0), ("fast", 8, 1)])
def test_presets_run_steps_whole_or_predict_them(model, pack, preset, running, behind):
    """Those behind the gate, which comes late, are without guidance."""
    patched = pack.nodes["TGATEApply"].execute(model=model, preset=preset).args[0]
    with recording(model, patched) as record:
        tiny.sample(patched, steps=25)
    assert [call.branches for call in record.calls] == [[1, 0]] * running + [[0]] * behind
    assert record.per_call("cross_attention") == [ATTENTIONS] * running + [0] * behind


@pytest.mark.parametrize(
    ("preset", "guided"),
    [("gentle", [0, 1, 2, 3, 5, 7, 9, 11, 13, 16, 19]), ("balanced", [0, 1, 4, 7, 11, 16]), ("fast", [0, 10])],
)
def test_presets_hold_guidance_where_no_step_can_be_predicted(model, pack, preset, guided):
    patched = pack.nodes["TGATEApply"].execute(model=model, preset=preset).args[0]
    with recording(model, patched) as record:
        tiny.sample(patched, steps=25, sampler="ddpm")
    assert [call.branches for call in record.calls] == [[1, 0] if step in guided else [0] for step in range(25)]
    assert record.per_call("cross_attention") == [ATTENTIONS * (step in guided) for step in range(25)]


def test_the_published_preset_gates_where_the_paper_does(model, pack):
    patched = pack.nodes["TGATEApply"].execute(model=model, preset="as published").args[0]
    with recording(model, patched) as record:
        tiny.sample(patched, steps=25)
    assert [call.branches for call in record.calls] == [[1, 0]] * 5 + [[1]] * 20


@pytest.mark.parametrize(("sampler", "rows"), [("heun", 60), ("euler_ancestral", 30), ("er_sde", 30)])
def test_presets_keep_to_their_budget_with_other_samplers(model, pack, sampler, rows):
    patched = pack.nodes["TGATEApply"].execute(model=model).args[0]
    with recording(model, patched) as record:
        tiny.sample(patched, steps=25, sampler=sampler)
    assert sum(len(call.branches) for call in record.calls) == rows


@pytest.mark.parametrize(("steps", "cfg", "gate"), [(4, 1.0, 1), (8, 5.0, 2), (12, 1.0, 3)])
def test_few_step_models_are_recognised(model, pack, steps, cfg, gate):
    patched = pack.nodes["TGATEApply"].execute(model=model).args[0]
    with recording(model, patched) as record:
        tiny.sample(patched, steps=steps, cfg=cfg)
    assert record.per_call("cross_attention") == [ATTENTIONS] * gate + [0] * (steps - gate)


def planned(pack, sampler, scheduler, steps, denoise=1.0, **more):
    """What the strip is told of a run at balanced."""
    query = {"node": "TGATEApply", "family": "sd15", "steps": str(steps), "sampler": sampler, "denoise": str(denoise)}
    levels = pack.core("host.noise_levels").noise_levels
    return pack.core("report.preview").preview({**query, "scheduler": scheduler, **more}, levels)


@pytest.mark.parametrize("scheduler", comfy.samplers.SCHEDULER_NAMES)
@pytest.mark.parametrize(("sampler", "steps", "denoise"), [("euler", 25, 1.0), ("uni_pc", 20, 0.6), ("dpm_2", 10, 1.0)])
def test_noise_levels_are_known_before_a_run(model, pack, scheduler, sampler, steps, denoise):
    noise = pack.core("report.preview").NoiseSchedule(scheduler, sampler, steps, 1.0 - denoise, 1.0, False)
    levels = pack.core("host.noise_levels").noise_levels("sd15", noise)
    run = comfy.samplers.KSampler(model, steps, "cpu", sampler, scheduler, denoise)
    assert levels.sigmas == tuple(run.sigmas.tolist())


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_noise_levels_of_a_part_of_a_run(model, pack, share):
    """As KSampler (Advanced) cuts it, and as a scheduler's node makes it."""
    noise = pack.core("report.preview").NoiseSchedule("karras", "uni_pc", 8, share, share + 0.4, True)
    levels = pack.core("host.noise_levels").noise_levels("sd15", noise)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "karras", 20)
    first = round(20 * share)
    assert levels.sigmas == tuple(sigmas[first : first + 9].tolist())


@pytest.mark.parametrize(
    ("sampler", "scheduler", "steps", "denoise"),
    [
        ("dpmpp_2m", "karras", 12, 1.0),
        ("dpmpp_2m", "exponential", 10, 1.0),
        ("dpmpp_2m", "karras", 25, 1.0),
        ("dpmpp_2m", "normal", 20, 0.6),
        ("euler", "ddim_uniform", 25, 1.0),
        ("euler", "simple", 25, 1.0),
    ],
)
def test_the_plan_is_what_runs(model, pack, sampler, scheduler, steps, denoise):
    patched = pack.nodes["TGATEApply"].execute(model=model).args[0]
    with recording(model, patched) as record:
        tiny.sample(patched, steps=steps, sampler=sampler, scheduler=scheduler, denoise=denoise)
    plan = planned(pack, sampler, scheduler, steps, denoise)
    assert not plan["is_approximate"]
    cells = [group for group in plan["groups"] for _ in range(group["count"]) if not group["predicted"]]
    assert [call.branches for call in record.calls] == [[1, 0] if cell["guided"] else [0] for cell in cells]


def test_noise_levels_change_the_plan(pack):
    """Without the scheduler's name the preview would not know."""
    known, unknown = (planned(pack, "dpmpp_2m", name, 10) for name in ("exponential", ""))
    assert known["groups"] != unknown["groups"]
    assert unknown["is_approximate"]


@pytest.mark.parametrize("changes", [{"family": "generic"}, {"scheduler": "nobody's"}, {"denoise": 0.001}])
def test_where_noise_levels_are_not_known_they_are_taken_as_even(pack, changes):
    asked = {"scheduler": "karras", "denoise": 1.0, **changes}
    plan = planned(pack, "euler", steps=25, **asked)
    assert plan["is_approximate"]
    assert plan == planned(pack, "euler", steps=25, **{**asked, "scheduler": ""})
