"""Foreign hooks, auxiliary passes and replaced attentions: who is called, in which order, and what is left alone."""

from __future__ import annotations

import copy
from itertools import pairwise

import foreign_nodes
import pytest
import tiny
import torch
from comfy.patcher_extension import WrappersMP
from foreign_nodes import TINY_BLOCKS
from hook_log import HookLog
from host_nodes import ONE_LEVEL, host_node
from other_nodes import AUXILIARY_NODES, WHOLE
from record import recording

STEPS = 5
SETTINGS = {"gate": 3.0, "fi_interval": 2}
SHAPES = [(8, 12), (12, 8), (9, 7), (10, 6)]


@pytest.fixture(scope="module")
def model():
    return tiny.sd15(**ONE_LEVEL)


@pytest.fixture(scope="module")
def two_levels():
    return tiny.sd15()


def is_skipped(kind: str, step: int) -> bool:
    """Whether `SETTINGS` reuse an attention in a step: cross-attention from 3 on, self-attention in 3 but not 4."""
    return (kind == "attn2" and step >= 3) or (kind == "attn1" and step == 3)


@pytest.mark.parametrize("guidance", ["uncond", "cond", "cached_delta", "keep"])
def test_shared_hooks_are_called_in_order(model, gated, guidance):
    """All hooks of a node before and one behind ours; of those at an attention, the ones where it is computed."""

    def logged(gate):
        log = HookLog()
        before = log.shared_hooks(model, "before")
        between = gated(before, guidance=guidance, **SETTINGS) if gate else before
        tiny.sample(log.shared_hooks(between, "behind"), steps=STEPS)
        return log.events

    expected = [event for event in logged(gate=False) if not is_skipped(event.hook[:5], event.step)]
    assert logged(gate=True) == expected


@pytest.mark.parametrize("order", ["ours first", "ours last"])
@pytest.mark.parametrize("guidance", ["uncond", "cached_delta", "keep"])
def test_single_hooks_are_called_in_order(model, gated, guidance, order):
    """Unet wrapper, cfg and calc_cond_batch functions, and a replacement of each attention of the middle block."""

    def logged(gate):
        log = HookLog()
        if not gate:
            patched = log.single_hooks(model, "other")
        elif order == "ours first":
            patched = log.single_hooks(gated(model, guidance=guidance, **SETTINGS), "other")
        else:
            patched = gated(log.single_hooks(model, "other"), guidance=guidance, **SETTINGS)
        tiny.sample(patched, steps=STEPS)
        return log.events

    expected = [event for event in logged(gate=False) if not is_skipped(event.hook[:5], event.step)]
    assert [event.hook for event in expected].count("attn2_replace") == 3
    assert logged(gate=True) == expected


def test_ours_leaves_wrappers_and_functions_of_others_in_place(model, gated):
    """Nothing that only one node can hold is taken by ours, whichever comes first."""
    patched = gated(model)
    for option in ("model_function_wrapper", "sampler_cfg_function", "sampler_calc_cond_batch_function"):
        assert option not in patched.model_options
    assert "patches_replace" not in patched.model_options["transformer_options"]


@pytest.mark.parametrize(("height", "width"), SHAPES)
@pytest.mark.parametrize("order", ["ours first", "ours last"])
def test_image_prompts_on_latents_that_are_not_square(two_levels, gated, order, height, width):
    """Masked images by replacement: the token count that they see is always that of the block."""
    latent = torch.zeros(2, 4, height, width)
    if order == "ours first":
        patched, calls = foreign_nodes.image_prompts(gated(two_levels, guidance="cond"))
    else:
        with_images, calls = foreign_nodes.image_prompts(two_levels)
        patched = gated(with_images, guidance="cond")
    with recording(two_levels, patched) as record:
        result = tiny.sample(patched, steps=6, latent=latent)
    assert calls == TINY_BLOCKS * 4
    assert record.per_call("cross_attention") == [7, 7, 7, 7, 0, 0]
    alone = tiny.sample(gated(two_levels, guidance="cond"), steps=6, latent=latent)
    assert torch.isfinite(result).all()
    assert (result - alone).abs().max() > 1e-2 * alone.std()


SLG_SIMPLE = host_node("nodes_slg", "SkipLayerGuidanceDiTSimple", double_layers="0", single_layers="0", **WHOLE)
AUXILIARY = {node.name: node.apply for node in AUXILIARY_NODES} | {"SLG simple": SLG_SIMPLE}


@pytest.mark.parametrize("guidance", ["uncond", "cached_delta", "keep"])
@pytest.mark.parametrize("name", AUXILIARY)
def test_auxiliary_passes_neither_read_nor_write_captures(model, gated, pack, monkeypatch, name, guidance):
    """The first call of each step is the main one; in any other, nobody may ask the capture cache for anything."""
    cache_class = pack.core("engine.cache").CaptureCache
    asked: list[tuple[int, str]] = []

    def spy_on(method):
        original = getattr(cache_class, method)

        def spied(*args, **kwargs):
            asked.append((len(began), method))
            return original(*args, **kwargs)

        monkeypatch.setattr(cache_class, method, spied)

    def note_begin(executor, *args, **kwargs):
        began.append(float(args[5]["sigmas"][0]))
        return executor(*args, **kwargs)

    began: list[float] = []
    outermost = AUXILIARY[name](model)
    outermost.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "outermost", note_begin)
    patched = gated(outermost, guidance=guidance, sp_interval=2, gate=3.0)
    for method in ("store", "bank"):
        spy_on(method)
    with recording(model, patched) as record:
        tiny.sample(patched, steps=6)
    auxiliary = {number for number, (one, two) in enumerate(pairwise(began), 2) if one == two}
    assert len(auxiliary) == 6
    assert {(record.calls[n - 1].self_attention, record.calls[n - 1].cross_attention) for n in auxiliary} == {(4, 4)}
    assert {method for number, method in asked if number in auxiliary} == set()
    assert {method for _, method in asked} == {"store", "bank"}


@pytest.mark.parametrize("order", ["ours first", "ours last"])
def test_slg_simple_without_layers_to_skip_is_computed_by_branch(model, gated, order):
    """It asks for cond and uncond one after the other: a UNet skips none of its layers, and guidance stays."""
    assert torch.allclose(tiny.sample(SLG_SIMPLE(model), steps=4), tiny.sample(model, steps=4), rtol=1e-3, atol=1e-2)
    settings = {"gate": 2.0, "guidance": "uncond"}
    patched = SLG_SIMPLE(gated(model, **settings)) if order == "ours first" else gated(SLG_SIMPLE(model), **settings)
    with recording(model, patched) as record:
        result = tiny.sample(patched, steps=4)
    assert torch.isfinite(result).all()
    assert [call.branches for call in record.calls] == [[0], [1]] * 4


def test_options_that_another_node_copied_in_depth_still_gate(gated):
    patched = gated(tiny.sd15(), sp_interval=2)
    copied = patched.clone()
    copied.model_options = copy.deepcopy(patched.model_options)
    assert torch.equal(tiny.sample(copied), tiny.sample(patched))


@pytest.mark.parametrize(("cfg", "reason"), [(5.0, "BRANCHES_APART"), (1.0, "NO_GUIDANCE")])
def test_what_is_said_of_branches_that_run_one_after_the_other(model, gated, counts_of, pack, cfg, reason):
    patched = gated(SLG_SIMPLE(model), guidance="uncond", gate=3.0)
    tiny.sample(patched, steps=6, cfg=cfg)
    reasons = {name: getattr(pack.core("gate.guidance"), name) for name in ("BRANCHES_APART", "NO_GUIDANCE")}
    assert {name for name, text in reasons.items() if text in counts_of(patched).notes} == {reason}
