"""No run ends with nothing saved and no reason: each cause is named once, in the report and in the log."""

from __future__ import annotations

import foreign_nodes
import pytest
import tiny
import torch
from host_nodes import host_node

STEPS = 8
FRAMES = tiny.noise(3, batch=8)
WIDE = tiny.noise(3, width=16)
PLAIN = {"gate": 4.0, "sp_interval": 2}


def reason_of(pack, name):
    """A reason by its name, wherever the core has it."""
    places = ("engine.reasons", "gate.technique", "gate.guidance", "deepcache.technique", "probe.technique")
    return next(vars(pack.core(place))[name] for place in places if name in vars(pack.core(place)))


@pytest.fixture(scope="module")
def model():
    return tiny.sd15()


@pytest.fixture
def told(pack):
    """What TGATE Report says of a run, and the run's record."""

    def tell(patched, samples):
        text = pack.nodes["TGATEReport"].execute(model=patched, latent={"samples": samples}).args[1]
        return text, pack.core("host.install").records_of(patched).last

    return tell


def windows_first(model, gate):
    return gate(foreign_nodes.own_windows(model))


def windows_last(model, gate):
    return foreign_nodes.own_windows(gate(model))


def behind(node):
    return lambda model, gate: node(gate(model))


CASES = [
    pytest.param(behind(foreign_nodes.batched_tiles), WIDE, "OTHER_BATCH", id="four tiles in one batch"),
    pytest.param(windows_last, FRAMES, "OTHER_BATCH", id="windows of frames behind us"),
    pytest.param(windows_first, FRAMES, "SPLIT_BEFORE", id="windows of frames before us"),
    pytest.param(behind(foreign_nodes.own_block_loop), None, "NO_CALL", id="blocks run by a wrapper"),
    pytest.param(behind(foreign_nodes.own_network_forward), None, "UNREACHED", id="forward of the network replaced"),
    pytest.param(behind(foreign_nodes.own_guider_passes), None, "NO_PASS", id="passes with options of their own"),
    pytest.param(behind(foreign_nodes.rows_one_by_one), None, "RUN_TWICE", id="rows one by one"),
]


@pytest.mark.oldest
@pytest.mark.parametrize("guidance", ["uncond", "cached_delta", "keep"])
@pytest.mark.parametrize(("node", "drawn", "reason"), CASES)
def test_a_run_that_saved_nothing_says_why(model, gated, told, caplog, pack, node, drawn, reason, guidance):
    def gate(source):
        return gated(source, **PLAIN, guidance=guidance)

    patched = node(model, gate)
    plain = node(model, lambda source: source)
    with caplog.at_level("INFO"):
        result = tiny.sample(patched, drawn=drawn)
    assert torch.equal(result, tiny.sample(plain, drawn=drawn))
    text, record = told(patched, result)
    wanted = reason_of(pack, reason)
    assert f"Steps: none of {STEPS} gated" in text
    assert f"Why not more: {wanted}" in text
    assert record.counts.notes.count(wanted) == 1
    assert sum(wanted in line for line in caplog.messages) == 1


def test_tiles_that_are_not_cut_out_of_the_latent(model, gated, told, pack):
    def mirrored(apply_model, args):
        x, c = args["input"], args["c"]
        halves = [x[..., :8], x[..., 8:].flip(-1)]
        first, second = (apply_model(half.contiguous(), args["timestep"], **c) for half in halves)
        return torch.cat([first, second.flip(-1)], dim=-1)

    patched = gated(model, **PLAIN)
    patched.set_model_unet_function_wrapper(mirrored)
    text, _ = told(patched, tiny.sample(patched, drawn=WIDE))
    assert reason_of(pack, "UNPLACED") in text


@pytest.mark.parametrize(("start", "gated_steps"), [(0, 7), (6, 1)])
def test_the_first_step_behind_the_gate_captures(model, gated, told, pack, start, gated_steps):
    """A run that begins at or behind its gate."""
    patched = gated(model, gate=0.0, guidance="keep")
    text, _ = told(patched, tiny.sample(patched, start_step=start))
    assert f"Steps: {gated_steps} of {STEPS - start} gated" in text
    assert reason_of(pack, "NOTHING_BEFORE") in text


def test_evaluations_beyond_those_that_captures_are_kept_for(model, gated, told, pack):
    patched = gated(model, gate=1.0)
    text, _ = told(patched, tiny.sample(patched, sampler="dpm_adaptive"))
    assert reason_of(pack, "MANY_EVALUATIONS") in text


def test_extra_passes_are_named(model, gated, told, pack):
    pag = host_node("nodes_pag", "PerturbedAttentionGuidance", scale=2.0)
    patched = pag(gated(model, gate=4.0, guidance="cached_delta"))
    text, _ = told(patched, tiny.sample(patched))
    assert f"Steps: 4 of {STEPS} gated" in text
    assert reason_of(pack, "EXTRA_PASS") in text


def test_attention_that_changes_its_size(model, gated, told, pack):
    """Deep Shrink lets go of the picture behind the gate."""
    shrink = {"downscale_after_skip": True, "downscale_method": "bicubic", "upscale_method": "bicubic"}
    until = {"block_number": 1, "downscale_factor": 2.0, "start_percent": 0.0, "end_percent": 0.7}
    patched = host_node("nodes_model_downscale", "PatchModelAddDownscale", **shrink, **until)(gated(model, gate=2.0))
    text, _ = told(patched, tiny.sample(patched))
    assert reason_of(pack, "MISFIT") in text


def test_a_limit_that_leaves_no_room(pack, gated, told, model):
    patched = gated(model, gate=2.0, guidance="keep", cache_limit_mb=1)
    samples = tiny.sample(patched, drawn=tiny.noise(3, batch=4, height=24, width=24), steps=4)
    text, _ = told(patched, samples)
    assert reason_of(pack, "CACHE_LIMIT") in text


@pytest.mark.parametrize(
    "node", [foreign_nodes.own_block_loop, foreign_nodes.own_network_forward], ids=["blocks", "forward"]
)
def test_deep_cache_alone_says_so_too(model, deep, told, node):
    patched = node(deep(model))
    text, _ = told(patched, tiny.sample(patched))
    assert "left out the deep blocks" in text
    assert "DeepCache: 0 of " in text
    assert "Why not more: " in text


def test_a_run_too_short_for_deep_cache(model, deep, told, caplog, pack):
    patched = deep(model, cache_interval=5)
    with caplog.at_level("INFO"):
        text, _ = told(patched, tiny.sample(patched, steps=1))
    assert reason_of(pack, "NO_SHALLOW_STEP") in text
    assert "the gate" not in text + caplog.text


class TestRunsThatAreLeftAlone:
    """Their strip, report and log speak of what there is."""

    def test_a_probe_alone_has_no_gate(self, model, pack, told, caplog):
        patched = pack.nodes["TGATEProbe"].execute(model=model).args[0]
        with caplog.at_level("INFO"):
            text, record = told(patched, tiny.sample(patched))
        [line] = [line for line in caplog.messages if line.startswith("TGATE: ")]
        assert "gate" not in line.replace("TGATE", "")
        assert "gate lies" not in text
        assert reason_of(pack, "PROBE_MEASURES") in line
        assert all(cell.has_run and cell.is_guided for cell in record.cells)

    @pytest.mark.parametrize("cfg", [5.0, 1.0])
    def test_a_gate_beyond_the_run_leaves_all_steps_in_full(self, model, gated, told, cfg):
        patched = gated(model, gate=10.0)
        text, record = told(patched, tiny.sample(patched, steps=6, cfg=cfg))
        assert [cell.as_json()["ran"] for cell in record.cells] == [True] * 6
        assert [cell.is_guided for cell in record.cells] == [cfg != 1.0] * 6
        assert text.count("the gate lies beyond this run of 6 steps") == 1

    def test_nobody_counts_the_steps_of_one_that_was_interrupted(self, model, gated, pack):
        def interrupt(step, *_):
            raise RuntimeError

        patched = gated(model, gate=10.0)
        with pytest.raises(RuntimeError):
            tiny.sample(patched, steps=6, callback=interrupt)
        record = pack.core("host.install").records_of(patched).last
        assert record.was_interrupted
        assert record.cells == ()

    def test_settings_that_leave_nothing_to_reuse(self, model, gated, told, pack):
        patched = gated(model, gate=4.0, guidance="keep", cross_attention=False)
        text, _ = told(patched, tiny.sample(patched))
        assert reason_of(pack, "NOTHING_TO_REUSE") in text
