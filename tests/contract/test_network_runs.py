"""Other nodes that run the network more than once in a call, or not at all: what was captured belongs to one run."""

from __future__ import annotations

import moving
import pytest
import tiny
import torch
from comfy.patcher_extension import WrappersMP
from host_nodes import ONE_LEVEL, host_node
from record import recording

GUIDANCE = ["uncond", "cond", "cond_mean", "cached_delta", "keep"]
STEPS = 6
GATE = 2.0
SETTINGS = {"gate": GATE, "sp_interval": 2, "fi_interval": 2}


@pytest.fixture(scope="module")
def model():
    return tiny.sd15(**ONE_LEVEL)


def reference(first, last, is_seen=True):
    """A reference of another picture, as Advanced-ControlNet runs it: before the picture, within the same call.

    Args:
        first, last: the steps in which it is on.
        is_seen: whether it goes through the host's wrappers of the network, where it can be told apart.
    """

    def add(source):
        patched, seen = source.clone(), []

        def network_wrapper(executor, x, *args, **kwargs):
            sigma = float(args[0].flatten()[0])
            if sigma not in seen:
                seen.append(sigma)
            if first <= len(seen) - 1 <= last:
                other = tiny.noise_of(9, x.shape) * 0.8
                if is_seen:
                    executor(other, *args, **kwargs)
                else:
                    executor.original(other, *args, **kwargs)
            return executor(x, *args, **kwargs)

        patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "reference", network_wrapper)
        return patched

    return add


def same_input_twice(first, last):
    """Runs the network twice on the picture itself, first without its text: nothing tells the two runs apart."""

    def add(source):
        patched, seen = source.clone(), []

        def network_wrapper(executor, x, timesteps, context, *args, **kwargs):
            sigma = float(timesteps.flatten()[0])
            if sigma not in seen:
                seen.append(sigma)
            if first <= len(seen) - 1 <= last:
                executor(x, timesteps, context * 0.1, *args, **kwargs)
            return executor(x, timesteps, context, *args, **kwargs)

        patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "twice", network_wrapper)
        return patched

    return add


def unseen_reference(first, last):
    return reference(first, last, is_seen=False)


WHOLE = (0, STEPS - 1)
RANGES = {"ends before captures": (0, 0), "ends with the gate": (0, 1), "starts after the gate": (3, 4), "whole": WHOLE}


@pytest.mark.parametrize("is_before", [True, False], ids=["before", "behind"])
@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize("steps", RANGES.values(), ids=RANGES)
def test_a_reference_that_is_run_before_the_picture_changes_nothing(model, gated, deep, steps, guidance, is_before):
    """Its run leaves nothing behind here, so the result is that of the gated model without it, and as much is saved."""

    def gate_it(source):
        return deep(gated(source, guidance=guidance, **SETTINGS), cache_interval=3)

    refer = reference(*steps)
    patched = gate_it(refer(model)) if is_before else refer(gate_it(model))
    with recording(model, patched) as record:
        result = tiny.sample(patched, steps=STEPS)
    assert torch.equal(result, tiny.sample(gate_it(model), steps=STEPS))
    computed = record.per_call("cross_attention")  # of the reference too
    assert min(computed) < max(computed) or steps == WHOLE
    assert record.batches == [2] * 2 + [2 if guidance == "keep" else 1] * 4


@pytest.mark.parametrize("guidance", GUIDANCE)
@pytest.mark.parametrize("steps", RANGES.values(), ids=RANGES)
@pytest.mark.parametrize("twice", [same_input_twice, unseen_reference])
def test_runs_that_cannot_be_told_apart_share_no_captures(model, gated, deep, caplog, twice, steps, guidance):
    """The picture's own run comes last: what the first of them captured, or was given, is never the picture's."""

    def gate_it(source):
        return deep(gated(source, guidance=guidance, **SETTINGS), cache_interval=3)

    with caplog.at_level("INFO"):
        result = tiny.sample(twice(*steps)(gate_it(model)), steps=STEPS)
    assert torch.isfinite(result).all()
    assert torch.equal(tiny.sample(twice(*steps)(gate_it(model)), steps=STEPS), result)
    if steps == WHOLE:
        assert torch.equal(result, tiny.sample(model, steps=STEPS))
        assert "runs the network more than once in a call" in caplog.text


def step_cache(name, threshold, start=0.0):
    return host_node(
        "nodes_easycache", f"{name}Node", reuse_threshold=threshold, start_percent=start, end_percent=1.0, verbose=False
    )


@pytest.mark.parametrize("is_before", [True, False], ids=["before", "behind"])
@pytest.mark.parametrize("name", ["EasyCache", "LazyCache"])
def test_a_step_cache_on_the_same_model_is_named(model, gated, caplog, name, is_before):
    cache = step_cache(name, 0.2)
    patched = gated(cache(model), gate=GATE) if is_before else cache(gated(model, gate=GATE))
    with caplog.at_level("INFO"):
        tiny.sample(patched, steps=STEPS)
    assert f"{name} is on the same model" in caplog.text


@pytest.mark.parametrize("name", ["EasyCache", "LazyCache"])
def test_the_hosts_step_caches_fail_alone_where_the_latent_changes_size(model, name):
    """So random graphs leave this pair out: the fault is there without T-GATE."""
    patched = step_cache(name, 3.0, start=0.5)(model)
    with pytest.raises(RuntimeError, match="must match the size of tensor"):
        tiny.sample(patched, steps=7, sampler=moving.SAMPLERS["resizing"])


class Guesses:
    """A DIFFUSION_MODEL wrapper that puts a guess in the place of the network in some steps, as step caches do."""

    def __init__(self, steps):
        self.steps = steps
        self.seen = []

    def __call__(self, executor, x, timesteps, *args, **kwargs):
        sigma = float(timesteps.flatten()[0])
        if sigma not in self.seen:
            self.seen.append(sigma)
        if len(self.seen) - 1 in self.steps:
            return torch.zeros_like(x)
        return executor(x, timesteps, *args, **kwargs)


@pytest.mark.parametrize("is_before", [True, False], ids=["before", "behind"])
@pytest.mark.parametrize("cross_attention", [True, False])
@pytest.mark.parametrize("guidance", ["uncond", "cond", "cached_delta"])
def test_a_pass_in_which_the_network_did_not_run_is_no_baseline(model, gated, guidance, cross_attention, is_before):
    """The last step before the gate is guessed: the next one is guided, and stands in for it."""

    def guess(source):
        patched = source.clone()
        patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "guesses", Guesses({1}))
        return patched

    settings = {"gate": GATE, "guidance": guidance, "cross_attention": cross_attention, "self_attention": False}
    patched = gated(guess(model), **settings) if is_before else guess(gated(model, **settings))
    with recording(model, patched) as record:
        tiny.sample(patched, steps=STEPS)
    assert record.batches == [2, 2, 2, 1, 1, 1]
