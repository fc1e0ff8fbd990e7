"""Steps that are predicted, on real networks: against an oracle, beside the other nodes, and where none may be."""

from __future__ import annotations

import comfy.samplers
import pytest
import tiny
import torch
from block_record import block_recording
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
from families import FAMILIES
from host_nodes import ONE_LEVEL, host_node
from joint_families import JOINT_FAMILIES
from record import recording
from tiny import distance

STEPS = 12
PREDICTED = (3, 5, 7, 9)
ONE_STEP = ("ddim", "euler", "euler_cfg_pp")
GATE = {"gate": 4.0, "guidance": "cached_delta", "self_attention": False, "cross_attention": False}
EXACT = 1e-5  # of the latent's spread


@pytest.fixture(scope="module")
def model():
    return tiny.sd15(**ONE_LEVEL)


@pytest.fixture
def counts(pack):
    return lambda model: pack.core("host.install").records_of(model).last.counts


@pytest.fixture
def report(pack):
    return lambda model, latent: pack.nodes["TGATEReport"].execute(model=model, latent={"samples": latent}).args[1]


def followed(seen: list[tuple[int, torch.Tensor]], step: int) -> torch.Tensor:
    """In a line from the last two, of three by the root of the share that would have led there before."""
    (second, y1), (third, y2) = seen[-2:]
    change = y2 - y1
    if len(seen) == 2:
        return y2 + (step - third) / (third - second) * change
    (first, y0), *_ = seen
    line = (y1 - y0) * (third - second) / (second - first)
    shares = [(a * b).sum() / (a * a).sum() for a, b in zip(line, change, strict=True)]
    far = (step - third) / (third - second)
    return torch.stack([y + far * s.clamp(0, 1).sqrt() * c for y, s, c in zip(y2, shares, change, strict=True)])


class Oracle:
    """The same in a wrapper of its own: predictions from slopes or pictures, from a gate on with a difference held."""

    def __init__(
        self, predicted: tuple[int, ...], guided: tuple[int, ...] = tuple(range(STEPS)), adds_noise: bool = False
    ) -> None:
        self.predicted, self.guided, self.adds_noise, self.step, self.rows = predicted, guided, adds_noise, -1, []
        self.seen: list[tuple[int, torch.Tensor, torch.Tensor, torch.Tensor | None]] = []
        self.held: torch.Tensor | None = None

    def __call__(self, executor, network, conds, x, timestep, options):
        self.step += 1
        sigma, is_guided = timestep[0], self.step in self.guided
        if self.step in self.predicted:
            slope, difference = self._followed(x, sigma, is_guided)
        else:
            made = executor(network, conds if is_guided else [conds[0], None], x, timestep, options)
            slope, difference = (x - made[0]) / sigma, (made[0] - made[1]) / sigma if is_guided else None
            self.rows.append(2 if is_guided else 1)
            self.seen = [*self.seen[-2:], (self.step, slope, made[0], difference)]
            if is_guided:
                self.held = difference
        difference = self.held if difference is None else difference
        return [x - sigma * slope, x - sigma * (slope + difference)]

    def _followed(self, x, sigma, is_guided):
        difference = followed([(one[0], one[3]) for one in self.seen], self.step) if is_guided else None
        if self.adds_noise:
            return (x - followed([(one[0], one[2]) for one in self.seen], self.step)) / sigma, difference
        return followed([(one[0], one[1]) for one in self.seen], self.step), difference

    def install(self, model):
        patched = model.clone()
        patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "oracle", self)
        return patched


@pytest.mark.parametrize(("strength", "predicted"), [(1, PREDICTED), (3, (3, 4, 5, 7, 8, 9))])
def test_predicted_steps_follow_the_oracle(model, forecast, strength, predicted):
    oracle = Oracle(predicted)
    expected = tiny.sample(oracle.install(model), steps=STEPS)
    with recording(model, patched := forecast(model, strength=strength)) as record:
        result = tiny.sample(patched, steps=STEPS)
    assert distance(result, expected) < EXACT
    assert record.batches == oracle.rows == [2] * (STEPS - len(predicted))


def test_a_multistep_sampler_predicts_in_short_steps_and_not_late(model, forecast, pack):
    steps, late = 30, 26
    oracle = Oracle(tuple(range(8, late, 2)), tuple(range(steps)))
    expected = tiny.sample(oracle.install(model), steps=steps, sampler="dpmpp_2m")
    with recording(model, patched := forecast(model)) as record:
        result = tiny.sample(patched, steps=steps, sampler="dpmpp_2m")
    assert pack.core("forecast.schedule").first_late_step(record.sigmas) == late
    assert record.batches == oracle.rows
    assert distance(result, expected) < EXACT


@pytest.mark.parametrize("is_before", [True, False], ids=["before", "behind"])
@pytest.mark.parametrize("refresh", ["never", "growing gaps"])
def test_the_gate_makes_the_other_branch_of_a_predicted_step(model, forecast, gated, is_before, refresh):
    # Step 3, the last before the gate, and the refreshed ones run.
    predicted, guided = ((4, 6, 8, 10), ()) if refresh == "never" else ((4, 6, 9), (5, 8))
    settings = {**GATE, "refresh": refresh, "refresh_gap": 2}
    oracle = Oracle(predicted, (0, 1, 2, 3, *guided))
    expected = tiny.sample(oracle.install(model), steps=STEPS)
    both = gated(forecast(model, end=1.0), **settings) if is_before else forecast(gated(model, **settings), end=1.0)
    with recording(model, both) as record:
        result = tiny.sample(both, steps=STEPS)
    assert record.batches == oracle.rows
    assert distance(result, expected) < EXACT


@pytest.mark.parametrize("guidance", ["uncond", "cond", "cond_mean", "cached_delta", "keep"])
def test_captures_last_through_predicted_steps(model, forecast, gated, guidance):
    patched = forecast(gated(model, gate=3.0, guidance=guidance), strength=4, end=1.0)
    with recording(model, patched) as record:
        tiny.sample(patched, steps=STEPS)
    # What runs on captures of both branches, as nothing before the gate does, has first to run twice.
    first = (3, 4) if guidance in ("uncond", "cond_mean") else ()
    ran = [record.sigmas[step] for step in (0, 1, 2, *first, 7, STEPS - 1)]
    assert [call.sigma for call in record.calls] == pytest.approx(ran)
    # Four steps without a use of the captures are no reason to drop them.
    assert not any(record.per_call("cross_attention")[3:])


@pytest.mark.parametrize("rule", ["growing gaps", "by error"])
def test_a_refreshed_step_is_never_predicted(model, forecast, gated, pack, rule):
    settings = {**GATE, "refresh": rule, "refresh_gap": 2, "refresh_tolerance": 0.0}
    patched = forecast(gated(model, **settings), strength=4, end=1.0)
    tiny.sample(patched, steps=STEPS)
    record, refresh = pack.core("host.install").records_of(patched).last, pack.core("gate.schedule").Phase.REFRESH
    refreshed = [cell for cell in record.cells if cell.phase is refresh]
    assert refreshed
    assert not any(cell.is_predicted for cell in refreshed)
    assert any(cell.is_predicted for cell in record.cells)


def test_deep_cache_counts_steps_that_run(model, forecast, deep):
    patched = deep(forecast(model), cache_interval=2)
    with block_recording(model, patched) as record:
        result = tiny.sample(patched, steps=STEPS)
    assert record.depths == "FsFsFsFs"
    assert torch.equal(result, tiny.sample(forecast(deep(model, cache_interval=2)), steps=STEPS))


def test_shallow_blocks_without_attention_ran_too(pack, deep, counts):
    """Those of SDXL hold none: what ran is no guess of another node."""
    model = tiny.sd15(transformer_depth=[0, 1], transformer_depth_output=[0, 0, 1, 1])
    alone = pack.nodes["TGATEApply"].execute(model=model, preset="balanced").args[0]
    patched = deep(alone, cache_interval=2)
    for one in (alone, patched):
        tiny.sample(one, steps=STEPS)
    assert counts(patched).shallow_calls
    assert counts(patched).skipped_passes == counts(alone).skipped_passes > 0
    assert not counts(patched).notes


@pytest.mark.parametrize("family", [one for one in FAMILIES if one.is_available], ids=lambda family: family.name)
def test_families(family, forecast, counts):
    model = family.make()
    patched = forecast(model)
    result = family.sample(patched, steps=STEPS)
    assert counts(patched).skipped_passes == len(PREDICTED)
    assert not counts(patched).notes
    assert torch.isfinite(result).all()
    assert not torch.equal(result, family.sample(model, steps=STEPS))


@pytest.mark.newest
@pytest.mark.parametrize("sampler", sorted(comfy.samplers.SAMPLER_NAMES))
def test_other_samplers_are_left_as_they_are(model, forecast, counts, pack, sampler):
    """Those that bear predictions in short steps alone are, too."""
    technique = pack.core("forecast.technique")
    patched = forecast(model)
    with recording(model, patched) as record:
        result = tiny.sample(patched, steps=STEPS, sampler=sampler)
    if sampler in ONE_STEP:
        assert len(record.calls) == STEPS - len(PREDICTED)
        return
    assert torch.equal(result, tiny.sample(model, steps=STEPS, sampler=sampler))
    assert {technique.OTHER_SAMPLER, technique.LONG_STEPS} & {*counts(patched).notes}


def test_a_sampler_that_is_told_to_add_noise_is_left_as_it_is(model, forecast):
    noisy = comfy.samplers.ksampler("euler", {"s_churn": 1.0})
    torch.manual_seed(0)
    plain = tiny.sample(model, steps=STEPS, sampler=noisy)
    torch.manual_seed(0)
    assert torch.equal(tiny.sample(forecast(model), steps=STEPS, sampler=noisy), plain)


def function_wrapper(model):
    """A pack that guesses steps in the host's wrapper of network calls, named as the known ones are."""

    class SpectrumPatcher:
        def __call__(self, apply_model, arguments):
            return apply_model(arguments["input"], arguments["timestep"], **arguments["c"])

    patched = model.clone()
    patched.set_model_unet_function_wrapper(SpectrumPatcher())
    return patched


STEP_CACHES = {
    "EasyCache": lambda model: EasyCacheNode.execute(model, 0.05, 0.1, 0.95, False)[0],
    "LazyCache": lambda model: LazyCacheNode.execute(model, 0.05, 0.1, 0.95, False)[0],
    "Spectrum": function_wrapper,
}


@pytest.mark.parametrize("is_before", [True, False], ids=["before", "behind"])
@pytest.mark.parametrize("name", STEP_CACHES)
def test_another_node_that_predicts_steps_is_let_alone(model, forecast, counts, name, is_before):
    other = STEP_CACHES[name]
    patched = other(forecast(model)) if is_before else forecast(other(model))
    assert torch.equal(tiny.sample(patched, steps=STEPS), tiny.sample(other(model), steps=STEPS))
    assert [note for note in counts(patched).notes if note.startswith(f"Forecast: {name} on the same model")]


def test_a_guess_of_an_unknown_node_ends_predictions(model, forecast, counts, pack):
    """It guesses the fifth step, which we would have gone on from."""
    calls = []

    def guess(executor, x, *args, **kwargs):
        calls.append(executor(x, *args, **kwargs) if len(calls) != 4 else calls[-1])
        return calls[-1]

    patched = forecast(model)
    patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "guess", guess)
    tiny.sample(patched, steps=STEPS)
    assert pack.core("forecast.technique").GUESSED in counts(patched).notes
    assert counts(patched).skipped_passes == 2  # steps 3 and 5; the guess is at step 6


def test_nodes_that_compare_passes_see_steps_that_ran(model, forecast, counts, pack):
    pag = host_node("nodes_pag", "PerturbedAttentionGuidance", scale=2.0)
    patched = pag(forecast(model))
    assert torch.equal(tiny.sample(patched, steps=STEPS), tiny.sample(pag(model), steps=STEPS))
    assert pack.core("forecast.technique").AUXILIARY in counts(patched).notes


def test_a_prompt_that_comes_later_is_computed(model, forecast, counts):
    later = [*tiny.text(1, 8, end_percent=0.5), *tiny.text(2, 8, start_percent=0.5)]
    patched = forecast(model, strength=4, end=1.0)
    with recording(model, patched) as record:
        tiny.sample(patched, steps=STEPS, positive=later)
    sigma = model.get_model_object("model_sampling").percent_to_sigma(0.5)
    first_two = [step for step, value in enumerate(record.sigmas) if value <= sigma][:2]
    ran = {round(call.sigma, 4) for call in record.calls}
    assert {round(record.sigmas[step], 4) for step in first_two} <= ran
    assert counts(patched).skipped_passes > 0


def test_a_difference_is_predicted_of_steps_in_which_both_branches_ran(model, pack):
    """The host leaves the second branch out of step 7, where cfg is 1: what it said last is older than the first's."""
    sampling, steps = model.get_model_object("model_sampling"), 25
    sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", steps).tolist()
    begin, end = (
        next(share / 1000 for share in range(1000) if sampling.percent_to_sigma(share / 1000) < sum(pair) / 2)
        for pair in (sigmas[6:8], sigmas[7:9])
    )
    override = host_node("nodes_custom_sampler", "CFGOverride", cfg=1.0, start_percent=begin, end_percent=end)
    ran = []
    for other in (lambda model: model, override):
        patched = pack.nodes["TGATEApply"].execute(model=other(model)).args[0]
        with recording(model, patched) as record:
            tiny.sample(patched, steps=steps)
        ran.append([(sigmas.index(pytest.approx(call.sigma)), len(call.branches)) for call in record.calls])
    assert ran[0][5:8] == [(7, 2), (9, 2), (12, 2)]
    assert ran[1][5:8] == [(7, 1), (8, 2), (9, 2)]


def test_a_restart_is_computed(model, forecast):
    sigmas = torch.tensor([10.0, 8.0, 6.0, 4.0, 9.0, 7.0, 5.0, 3.0, 2.0, 1.0, 0.0])
    patched = forecast(model, start=0.0, end=1.0)
    with recording(model, patched) as record:
        tiny.sample(patched, sigmas=sigmas)
    assert [call.sigma for call in record.calls] == [10.0, 8.0, 6.0, 4.0, 9.0, 7.0, 5.0, 3.0, 1.0]


@pytest.mark.parametrize("settings", [{"start": 0.9, "end": 0.9}, {"start": 1.0, "end": 0.0}])
def test_switched_off_it_leaves_the_model_as_it_is(model, forecast, settings):
    assert torch.equal(tiny.sample(forecast(model, **settings), steps=STEPS), tiny.sample(model, steps=STEPS))


def test_a_run_too_short_is_left_as_it_is(model, forecast, counts, pack):
    patched = forecast(model)
    assert torch.equal(tiny.sample(patched, steps=3), tiny.sample(model, steps=3))
    assert counts(patched).notes == [pack.core("forecast.technique").NO_STEP]


def test_the_report_names_predicted_steps_and_counts_the_plain_run(model, forecast, gated, pack, report):
    patched = forecast(model)
    text = report(patched, tiny.sample(patched, steps=STEPS))
    assert "Predicted: steps 3, 5, 7, 9" in text
    assert f"({len(PREDICTED) / STEPS:.0%} saved)" in text
    both = forecast(gated(model, **GATE))
    tiny.sample(both, steps=STEPS)
    costs, records = pack.core("host.costs"), pack.core("host.install").records_of
    made = [costs.count_run(one, records(one).last).plain for one in (patched, both)]
    assert made[0] == made[1]


def test_the_probe_does_not_measure_predictions(model, forecast, pack):
    watched, probe = pack.nodes["TGATEProbe"].execute(model=model).args
    tiny.sample(forecast(watched), steps=STEPS)
    assert probe.profile is None


def test_another_run_begins_anew(model, forecast):
    patched = forecast(model)
    first = tiny.sample(patched, steps=STEPS)
    assert torch.equal(tiny.sample(patched, steps=STEPS), first)


@pytest.fixture(scope="module")
def joint():
    """A model of which the presets leave the attentions alone."""
    family = next(family for family in JOINT_FAMILIES if family.name == "Lumina 2")
    return family, family.make()


@pytest.mark.newest
@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "er_sde"])
@pytest.mark.parametrize("preset", ["balanced", "gentle", "fast"])
def test_a_preset_is_what_the_oracle_says(joint, pack, preset, sampler):
    family, model = joint
    steps = 25
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", steps).tolist()
    plan = pack.core("presets").PresetConfig("generic", preset).resolve(sigmas, True, sampler)
    guided, needed = tuple(range(steps)), ()
    if plan.gate is not None:
        schedule, gate = pack.core("gate.schedule"), int(plan.gate.gate)
        refreshed = schedule.refreshed_steps(plan.gate, sigmas, gate, True)
        guided, needed = (*range(gate), *refreshed), schedule.needed_steps(plan.gate, gate, refreshed)
    predicted = pack.core("forecast.schedule").forecast_steps(plan.forecast, sigmas, needed)
    oracle = Oracle(tuple(predicted), guided, adds_noise=sampler == "er_sde")
    run = {"steps": steps, "scheduler": "normal", "sampler": sampler}
    expected = family.sample(oracle.install(model), **run)
    made = pack.nodes["TGATEApply"].execute(model=model, preset=preset).args[0]
    assert distance(family.sample(made, **run), expected) < EXACT
    assert sum(oracle.rows) <= 2 * steps * pack.core("presets").BUDGETS[preset].with_noise + EXACT


@pytest.mark.parametrize("order", ["Forecast first", "Apply first"])
def test_a_forecast_beside_a_preset_stands_in_place_of_the_presets_own(model, forecast, counts, pack, order):
    def apply(model):
        return pack.nodes["TGATEApply"].execute(model=model).args[0]

    settings = {"strength": 1, "start": 0.5, "end": 0.6}
    patched = apply(forecast(model, **settings)) if order == "Forecast first" else forecast(apply(model), **settings)
    tiny.sample(patched, steps=25)
    skipped = [step for step, one in counts(patched).by_step.items() if one.skipped_passes]
    assert skipped
    assert set(skipped) <= {12, 13, 14}


@pytest.mark.parametrize("order", ["Forecast first", "Apply first"])
def test_beside_a_forecast_that_does_not_know_the_sampler_a_preset_goes_on_predicting(
    model, forecast, counts, pack, order
):
    def apply(model):
        return pack.nodes["TGATEApply"].execute(model=model).args[0]

    patched = apply(forecast(model)) if order == "Forecast first" else forecast(apply(model))
    alone, together = (
        tiny.sample(one, steps=25, sampler="er_sde", scheduler="normal") for one in (apply(model), patched)
    )
    assert any(one.skipped_passes for one in counts(patched).by_step.values())
    assert torch.equal(together, alone)
