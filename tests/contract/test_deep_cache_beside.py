"""DeepCache beside other nodes, in both orders, and on conditionings of every kind."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import tiny
import torch
from block_record import block_recording, shallow_blocks, unet_blocks
from comfy.ldm.modules.attention import SpatialTransformer
from conditioning_cases import CASES
from host_nodes import ONE_LEVEL, host_node
from other_nodes import ALL_NODES, SHRINK, WHOLE, OtherNode
from reference import reference
from tiny import distance

pytestmark = pytest.mark.newest

EXACT = 1e-4  # of the latent's spread
STEPS = 5
BLOCK_PATCHES = (
    "input_block_patch",
    "input_block_patch_after_skip",
    "middle_block_after_patch",
    "output_block_patch",
)
# Subtracts one normalisation from the other: what is left of this model answers with zeros, whatever it is given.
NO_EFFECT = ["ModelSubtract"]
# Reads the scores of an attention in the middle: those of the last full step.
NO_ORACLE = ["SAG"]


@pytest.fixture(scope="module")
def model():
    return tiny.sd15()


@pytest.fixture(scope="module")
def one_level():
    return tiny.sd15(**ONE_LEVEL)


def sample(patched: Any, node: OtherNode) -> torch.Tensor:
    torch.manual_seed(0)  # some nodes draw from the global generator
    return tiny.sample(patched, steps=STEPS, **node.run)


@pytest.fixture(scope="module")
def without_ours(model, one_level):
    """What both orders are compared with: the run of a node alone, and on the reference."""

    @cache
    def runs(name):
        node = next(node for node in ALL_NODES if node.name == name)
        plain = model if node.needs_levels else one_level
        kept = None if name in NO_ORACLE else sample(node.apply(reference(plain, interval=3)), node)
        return sample(node.apply(plain), node), kept

    return runs


@pytest.mark.parametrize("order", ["ours first", "ours last"])
@pytest.mark.parametrize("node", ALL_NODES, ids=lambda node: node.name)
def test_beside_another_node(model, one_level, without_ours, deep, node, order):
    model = model if node.needs_levels else one_level
    patched = node.apply(deep(model)) if order == "ours first" else deep(node.apply(model))
    with block_recording(model, patched) as record:
        result = sample(patched, node)
    alone, kept = without_ours(node.name)
    assert record.depths.count("s") >= 3
    assert node.name in NO_EFFECT or distance(result, alone) > 1e-3
    if node.name not in NO_ORACLE:
        assert distance(result, kept) < EXACT


@pytest.mark.parametrize("order", ["ours first", "ours last"])
@pytest.mark.parametrize("name", ["FreeU", "FreeU V2", "PAG", "SAG", "HyperTile", "ContextWindows"])
def test_both_beside_another_node(model, deep, gated, name, order):
    """T-GATE, DeepCache and a third node: what differs from a run without DeepCache is DeepCache's doing alone."""
    node = next(node for node in ALL_NODES if node.name == name)

    def ours(model, **settings):
        return gated(deep(model, **settings), gate=3.0, guidance="cached_delta", self_attention=False)

    def beside(**settings):
        return node.apply(ours(model, **settings)) if order == "ours first" else ours(node.apply(model), **settings)

    with block_recording(model, patched := beside()) as record:
        result = sample(patched, node)
    assert torch.isfinite(result).all()
    assert record.depths.count("s") >= 2
    assert torch.equal(sample(beside(cache_interval=1), node), sample(beside(start=1.0), node))
    assert distance(result, sample(beside(cache_interval=1), node)) < 2.0


@pytest.mark.parametrize("name", CASES)
def test_conditionings(model, deep, name):
    case = CASES[name]
    positive, negative = case.build()
    run = {"positive": positive, "negative": negative, "cfg": case.cfg, "steps": STEPS}
    patched = deep(model)
    with block_recording(model, patched) as record:
        result = tiny.sample(patched, **run)
    assert "s" in record.depths
    assert distance(result, tiny.sample(reference(model, interval=3), **run)) < EXACT


@pytest.mark.parametrize("guidance", ["uncond", "cached_delta", "keep"])
@pytest.mark.parametrize("name", ["combine: two of each", "regions over a whole", "default conds of both sides"])
def test_regions_with_both(model, deep, gated, name, guidance):
    """Whether conds come in one call or in many does not show."""
    positive, negative = CASES[name].build()
    run = {"positive": positive, "negative": negative, "steps": STEPS}
    together = tiny.sample(gated(deep(model), gate=3.0, guidance=guidance, sp_interval=2), **run)
    apart = tiny.sd15()
    tiny.split_all_conds(apart)
    patched = gated(deep(apart), gate=3.0, guidance=guidance, sp_interval=2)
    assert distance(tiny.sample(patched, **run), together) < EXACT


@pytest.mark.parametrize(
    ("block", "depths"),
    [
        pytest.param(2, "FssFs", id="shrinks within one level"),
        pytest.param(1, "FFFFF", id="shrinks right behind the cut"),
    ],
)
def test_what_another_node_resizes(deep, block, depths):
    """Back in its size before the cut it is kept like anything else; resized at the cut itself, it is not."""
    model = tiny.sd15(num_res_blocks=[3, 1], transformer_depth=[1] * 4, transformer_depth_output=[1] * 6)
    shrink = host_node(
        "nodes_model_downscale", "PatchModelAddDownscale", block_number=block, downscale_factor=2.0, **SHRINK, **WHOLE
    )
    patched = deep(shrink(model))
    with block_recording(model, patched) as record:
        result = tiny.sample(patched, steps=STEPS)
    assert record.depths == depths
    kept = reference(model, interval=3, last=STEPS if "s" in depths else 0)
    assert distance(result, tiny.sample(shrink(kept), steps=STEPS)) < EXACT


def in_place(model):
    """A node whose output block patches write into what they are given, at every block."""

    def patch(h, skip, options):
        h *= 1.0 + 0.1 * options["block"][1]
        skip += 0.1
        return h, skip

    patched = model.clone()
    patched.set_model_output_block_patch(patch)
    return patched


@pytest.mark.parametrize("order", ["ours first", "ours last"])
def test_patches_that_write_in_place_do_not_write_into_what_is_kept(model, deep, order):
    patched = in_place(deep(model)) if order == "ours first" else deep(in_place(model))
    expected = tiny.sample(in_place(reference(model, interval=3)), steps=STEPS)
    assert distance(tiny.sample(patched, steps=STEPS), expected) < EXACT


class LayerLog:
    """A node that runs some layers itself, and notes which."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.calls: list[list[Any]] = []

    def install(self, model: Any) -> Any:
        patched = model.clone()
        patched.set_model_patch((self.kind, self._run), "forward_timestep_embed_patch")
        patched.add_wrapper_with_key("apply_model", "log", self._begin)
        return patched

    def _begin(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        self.calls.append([])
        return executor(*args, **kwargs)

    def _run(self, layer: Any, x: Any, emb: Any, context: Any, options: Any, *_: Any) -> Any:
        self.calls[-1].append((options["block"], options["transformer_index"]))
        options["transformer_index"] += 1
        return layer(x, context, options)


@pytest.mark.parametrize("order", ["ours first", "ours last"])
def test_handlers_of_layers_are_asked_where_layers_run(model, deep, order):
    """And see the transformers counted as if all ran."""
    log = LayerLog(SpatialTransformer)
    patched = log.install(deep(model)) if order == "ours first" else deep(log.install(model))
    result = tiny.sample(patched, steps=2)
    full, shallow = log.calls
    assert [index for _, index in full] == list(range(7))
    assert shallow == [call for call in full if call[0] in (("input", 1), ("output", 2), ("output", 3))]
    assert distance(result, tiny.sample(deep(model), steps=2)) == 0.0


@pytest.mark.parametrize("order", ["ours first", "ours last"])
def test_patches_of_blocks_are_called_where_blocks_run(model, deep, order):
    calls: list[list[Any]] = []

    def log(model):
        patched = model.clone()
        patched.add_wrapper_with_key(
            "apply_model", "log", lambda executor, *args: (calls.append([]), executor(*args))[1]
        )
        for name in ("input_block_patch", "input_block_patch_after_skip"):
            patched.set_model_patch(lambda h, options: (calls[-1].append(options["block"]), h)[1], name)
        patched.set_model_patch(
            lambda h, skip, options: (calls[-1].append(options["block"]), (h, skip))[1], "output_block_patch"
        )
        patched.set_model_patch(
            lambda given: (calls[-1].append(given["transformer_options"]["block"]), given)[1],
            "middle_block_after_patch",
        )
        return patched

    tiny.sample(log(deep(model)) if order == "ours first" else deep(log(model)), steps=2)
    full, shallow = calls
    assert {block for block in full if block[0] != "middle"} == set(unet_blocks(model)) - {("middle", 0)}
    assert shallow == [block for block in full if block in shallow_blocks(model)]
