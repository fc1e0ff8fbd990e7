"""A technique that the engine has never heard of: it skips whole steps, and is decided upon while the run goes on."""

from __future__ import annotations

import pytest
import tiny
import torch
from comfy.patcher_extension import WrappersMP
from hold_technique import change, hold_technique
from host_nodes import ONE_LEVEL
from record import recording

STEPS = 10
TOLERANCE = 0.5


@pytest.fixture(scope="module")
def model():
    return tiny.sd15(**ONE_LEVEL)


@pytest.fixture
def hold(pack):
    made = hold_technique(pack.core)(TOLERANCE)
    return lambda model: pack.core("host.install").add_technique(model, "hold", made, gates_attention=False)


class Oracle:
    """The same in a wrapper of its own: real steps, held ones, and from a gate on one branch and a held difference."""

    def __init__(self, gate=1000):
        self.gate, self.step, self.rows = gate, -1, []
        self.last, self.is_steady, self.difference = None, False, None

    def __call__(self, executor, network, conds, x, timestep, options):
        self.step += 1
        sigma, is_gated = timestep[0], self.step >= self.gate
        if self.is_steady and self.step != self.gate - 1:
            self.is_steady = False
            predictions = self.last
        else:
            alive = [conds[0], None] if is_gated else conds
            predictions = executor(network, alive, x, timestep, options)
            self.rows.append(1 if is_gated else 2)
            self.is_steady = self.last is not None and change(self.last[0], predictions[0]) < TOLERANCE
            self.last = predictions
        if self.step == self.gate - 1:
            self.difference = (predictions[0] - predictions[1]) / sigma
        return [predictions[0], predictions[0] - self.difference * sigma] if is_gated else predictions

    def install(self, model):
        patched = model.clone()
        patched.add_wrapper_with_key(WrappersMP.CALC_COND_BATCH, "oracle", self)
        return patched


def test_steps_that_run_no_network_follow_the_oracle(model, hold):
    oracle = Oracle()
    expected = tiny.sample(oracle.install(model), steps=STEPS)
    with recording(model, held := hold(model)) as record:
        result = tiny.sample(held, steps=STEPS)
    assert torch.equal(result, expected)
    assert record.batches == oracle.rows
    assert 0 < len(record.calls) < STEPS


@pytest.mark.parametrize("is_before", [True, False], ids=["before", "behind"])
@pytest.mark.parametrize("gate", [2, 4, 5])
def test_beside_the_gate_a_step_that_others_build_on_is_real(model, gated, hold, gate, is_before):
    oracle = Oracle(gate)
    expected = tiny.sample(oracle.install(model), steps=STEPS)
    settings = {"gate": float(gate), "guidance": "cached_delta", "cross_attention": False, "self_attention": False}
    both = gated(hold(model), **settings) if is_before else hold(gated(model, **settings))
    with recording(model, both) as record:
        result = tiny.sample(both, steps=STEPS)
    assert (result - expected).abs().max() < 1e-5 * expected.std()
    assert record.batches == oracle.rows


def test_the_report_counts_what_did_not_run(model, hold, pack):
    held = hold(model)
    tiny.sample(held, steps=STEPS)
    counts = pack.core("host.install").records_of(held).last.counts
    skipped = sum(step.skipped_passes for step in counts.by_step.values())
    assert skipped == STEPS - counts.network_calls > 0


def test_another_run_begins_anew(model, hold):
    held = hold(model)
    assert torch.equal(tiny.sample(held, steps=STEPS), tiny.sample(held, steps=STEPS))
