"""What is known of a run once it is over: what its steps did, why not more, and which latent it made."""

from __future__ import annotations

import comfy.model_management
import pytest
import tiny
import torch
from record import recording

STEPS = 8
EACH_KIND = 7  # attentions of each kind in the tiny model


@pytest.fixture(scope="module")
def model():
    return tiny.sd15()


@pytest.fixture
def records(pack):
    return pack.core("host.install").records_of


def column(record, name):
    return [cell.as_json()[name] for cell in record.cells]


@pytest.mark.parametrize("guidance", ["uncond", "cached_delta", "keep"])
def test_the_record_says_what_ran(model, gated, records, guidance):
    patched = gated(model, gate=5.0, sp_interval=2, fi_interval=2, warm_up=1, protect_last=1, guidance=guidance)
    with recording(model, patched) as seen:
        result = tiny.sample(patched)
    record = records(patched).find(result)
    computed_self, computed_cross = seen.per_call("self_attention"), seen.per_call("cross_attention")
    assert column(record, "self_reused") == [1 - computed / EACH_KIND for computed in computed_self]
    assert column(record, "cross_reused") == [1 - computed / EACH_KIND for computed in computed_cross]
    assert column(record, "guided") == [batch == 2 for batch in seen.batches]
    assert column(record, "phase") == ["planning"] * 5 + ["fidelity"] * 2 + ["protected"]
    statistics = record.counts
    assert statistics.attentions_computed == sum(computed_self) + sum(computed_cross)
    assert statistics.attentions_reused == 2 * EACH_KIND * STEPS - statistics.attentions_computed
    assert not record.was_interrupted
    assert record.seconds > 0


def test_a_shallow_step_is_told_apart(model, deep, records):
    patched = deep(model)
    record = records(patched).find(tiny.sample(patched))
    assert column(record, "shallow") == [step % 3 > 0 for step in range(STEPS - 1)] + [True]


def test_each_latent_has_its_own_run(model, gated, records):
    patched = gated(model)
    first, second = tiny.sample(patched, seed=1), tiny.sample(patched, seed=2, steps=5)
    assert len(records(patched).find(first).cells) == STEPS
    assert len(records(patched).find(second.half()).cells) == 5
    assert records(patched).find(torch.zeros_like(first)) is None
    assert records(patched).last is records(patched).find(second)


def test_clones_share_their_records_and_other_gates_do_not(model, gated, records):
    patched = gated(model)
    clone = patched.clone()
    assert records(patched).find(tiny.sample(clone)) is not None
    assert records(gated(patched)).last is None
    assert records(model) is None


@pytest.mark.parametrize(
    ("settings", "run", "reason"),
    [
        ({"gate": 30.0}, {}, "nothing is changed in this run: the gate lies beyond this run of 8 steps"),
        ({}, {"cfg": 1.0}, "no second pass"),
        ({}, {"positive": [*tiny.text(1), *tiny.text(3)]}, "a branch has several conds"),
    ],
)
def test_a_run_says_why_it_saved_nothing(model, gated, pack, records, caplog, settings, run, reason):
    patched = gated(model, self_attention=False, **settings)
    with caplog.at_level("INFO"):
        tiny.sample(patched, **run)
    assert reason in pack.core("report.text").summary_text(records(patched).last)
    assert sum(reason in line for line in caplog.messages) == 1


def test_a_plain_run_has_a_record_too(model, gated, records):
    patched = gated(model, gate=30.0)
    record = records(patched).find(tiny.sample(patched))
    assert record.is_plain
    assert column(record, "cross_reused") == [0] * STEPS


def test_an_interrupted_run_is_told(model, gated, records):
    def interrupt(step, *_):
        if step == 3:
            raise comfy.model_management.InterruptProcessingException

    patched = gated(model)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        tiny.sample(patched, callback=interrupt)
    record = records(patched).last
    assert record.was_interrupted
    assert record.fingerprint is None
    assert column(record, "ran") == [True] * 4 + [False] * 4


def test_the_listener_hears_of_each_run(model, pack):
    heard = []
    config = pack.core("gate.config").GateConfig(gate=4.0)
    patched = (
        pack.core("host.install").apply_config(model, config, pack.core("report.record").Listener(heard.append)).model
    )
    tiny.sample(patched)
    tiny.sample(patched.clone(), steps=5)
    assert [len(record.cells) for record in heard] == [STEPS, 5]
