"""Other nodes before and after ours: both orders, each against a run of the same graph that saves nothing."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pytest
import tiny
import torch
from comfy.model_patcher import ModelPatcher
from host_nodes import ONE_LEVEL
from other_nodes import ALL_NODES, OtherNode
from record import Recording, recording
from reference import reference
from torch import Tensor

STEPS = 4
MODES: dict[str, dict[str, Any]] = {
    "uncond": {"gate": 2.0, "sp_interval": 1, "fi_interval": 2, "guidance": "uncond"},
    "cached_delta": {"gate": 3.0, "sp_interval": 2, "fi_interval": 1, "guidance": "cached_delta"},
}


class Bench:
    """The models that the nodes are put on, and the runs that many cases compare with."""

    def __init__(self, gated: Any) -> None:
        self._gated = gated
        self._models = {True: tiny.sd15(), False: tiny.sd15(**ONE_LEVEL)}
        self._results: dict[Hashable, Tensor] = {}

    def model(self, node: OtherNode) -> ModelPatcher:
        """The model for a node."""
        return self._models[node.needs_levels]

    def without_node(self, node: OtherNode, settings: dict[str, Any] | None = None) -> Tensor:
        """The run without the node; with T-GATE where settings for it are given."""
        latent = node.run.get("latent")
        shape = None if latent is None else tuple(latent.shape)
        key = (node.needs_levels, shape, "denoise_mask" in node.run, str(settings))
        if key not in self._results:
            model = self.model(node)
            self._results[key] = sample(model if settings is None else self._gated(model, **settings), node)
        return self._results[key]


@pytest.fixture(scope="module")
def bench(pack):
    def apply(model: ModelPatcher, **settings: Any) -> ModelPatcher:
        return pack.nodes["TGATEApplyAdvanced"].execute(model=model, warm_up=0, **settings).args[0]

    return Bench(apply)


def sample(patched: ModelPatcher, node: OtherNode) -> Tensor:
    torch.manual_seed(0)  # some nodes draw from the global generator
    return tiny.sample(patched, steps=STEPS, **node.run)


def both_orders(gated: Any, node: OtherNode, model: ModelPatcher, **settings: Any) -> tuple[ModelPatcher, ModelPatcher]:
    """T-GATE first and the other node behind it, then the other way round."""
    return node.apply(gated(model, **settings)), gated(node.apply(model), **settings)


def differs(one: Tensor, other: Tensor) -> bool:
    return tiny.distance(one, other) > 1e-3


def by_the_reference(model: ModelPatcher, node: OtherNode, settings: dict[str, Any]) -> Tensor:
    guidance = "keep" if settings["guidance"] in node.kept_in else settings["guidance"]
    intervals = {
        name: settings[name] for name in ("sp_interval", "fi_interval") if settings.get("self_attention", True)
    }
    return sample(reference(node.apply(model), int(settings["gate"]), guidance, **intervals), node)


@pytest.mark.oldest
@pytest.mark.parametrize("node", ALL_NODES, ids=lambda node: node.name)
def test_beside_another_node_off_is_bit_equal(bench, gated, node):
    alone = sample(node.apply(bench.model(node)), node)
    for patched in both_orders(gated, node, bench.model(node), gate=100.0, sp_interval=2):
        assert torch.equal(sample(patched, node), alone)
    assert torch.isfinite(alone).all()
    assert node.is_inert != differs(alone, bench.without_node(node))


@pytest.mark.parametrize("mode", [pytest.param("uncond", marks=pytest.mark.newest), "cached_delta"])
@pytest.mark.parametrize("node", ALL_NODES, ids=lambda node: node.name)
def test_beside_another_node(bench, gated, node, mode):
    """Both orders agree, keep the other node's effect, and give what freezing all outputs by hand gives."""
    model, settings = bench.model(node), {**MODES[mode], **node.settings}
    first, last = both_orders(gated, node, model, **settings)
    result = sample(first, node)
    with recording(model, last) as record:
        assert torch.equal(sample(last, node), result)
    assert torch.isfinite(result).all()
    if not node.is_inert:
        assert differs(result, bench.without_node(node, settings))
    if mode not in node.not_frozen_in:
        expected = by_the_reference(model, node, settings)
        assert (result - expected).abs().max() < 1e-3 * expected.std()
    check_what_ran(record, node, mode, len(tiny.blocks(model)))


# Those whose nodes patch attention, guidance, the network's blocks, or run a branch of their own.
BESIDE_REFRESH = ["HyperTile", "FreeU", "RescaleCFG", "APG", "CFGOverride", "pre-cfg function", "PAG", "LoRA"]


@pytest.mark.newest
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [node.name for node in ALL_NODES if node.name in BESIDE_REFRESH or node.auxiliary])
def test_refreshed_beside_another_node(bench, gated, name, mode):
    node = next(node for node in ALL_NODES if node.name == name)
    settings = {"gate": 2.0, "sp_interval": 1, "guidance": mode, "refresh": "growing gaps", **node.settings}
    first, last = both_orders(gated, node, bench.model(node), **settings)
    run = {"steps": 10, **node.run}
    torch.manual_seed(0)
    result = tiny.sample(first, **run)
    torch.manual_seed(0)
    assert torch.equal(tiny.sample(last, **run), result)
    guidance = "keep" if mode in node.kept_in else mode
    torch.manual_seed(0)
    expected = tiny.sample(reference(node.apply(bench.model(node)), 2, guidance, refreshed=(3, 6)), **run)
    assert mode in node.not_frozen_in or (result - expected).abs().max() < 1e-3 * expected.std()


def check_what_ran(record: Recording, node: OtherNode, mode: str, attentions: int) -> None:
    """After the gate, the main calls hold one branch (both, where guidance stays) and no cross-attention at all."""
    gate_sigma = record.sigmas[int(MODES[mode]["gate"])]
    branches = {"uncond": [1], "cached_delta": [0]}[mode] if mode not in node.kept_in else [1, 0]
    per_step = 1 + node.auxiliary
    assert node.auxiliary == 0 or len(record.calls) == STEPS * per_step
    for position, call in enumerate(record.calls):
        if node.auxiliary and position % per_step > 0:
            assert (len(call.branches), call.self_attention, call.cross_attention) == (1, attentions, attentions)
        elif call.sigma <= gate_sigma * (1 + 1e-5):
            assert (call.branches, call.cross_attention) == (branches, 0)


def stacked(names: list[str], gated: Any, place: int, **settings: Any) -> Any:
    """Nodes in a row, T-GATE at one place among them."""
    nodes = [next(node for node in ALL_NODES if node.name == name) for name in names]
    functions = [node.apply for node in nodes]
    if gated is not None:
        functions.insert(place, lambda model: gated(model, **settings))

    def apply(model: ModelPatcher) -> ModelPatcher:
        for function in functions:
            model = function(model)
        return model

    return apply


STACK = ["UNetSelfAttentionMultiply", "ModelSamplingDiscrete v", "FreeU V2", "HyperTile", "PAG"]
STACK += ["image prompts by attn2 replacement", "output patches that write in place", "RescaleCFG", "unet wrapper"]
STACK += ["Epsilon Scaling"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("place", [0, 4, len(STACK)])
def test_amid_ten_other_nodes(gated, mode, place):
    model = tiny.sd15()
    whole = OtherNode("stack", stacked(STACK, None, 0), kept_in=frozenset({"uncond"}), auxiliary=1)
    patched = stacked(STACK, gated, place, **MODES[mode])(model)
    with recording(model, patched) as record:
        result = sample(patched, whole)
    expected = by_the_reference(model, whole, MODES[mode])
    assert (result - expected).abs().max() < 1e-3 * expected.std()
    gate = int(MODES[mode]["gate"])
    assert [call.cross_attention for call in record.calls] == [7, 7] * gate + [0, 7] * (STEPS - gate)


@pytest.mark.parametrize("name", ["object patch on forward", "injection on forward", "LoraLoaderBypass"])
def test_others_that_replace_forward_leave_nothing_of_ours(gated, name):
    """Whoever wraps a `forward` first: nothing of ours stays on it, and the plain model gives what it gave."""
    model = tiny.sd15(**ONE_LEVEL)
    node = next(node for node in ALL_NODES if node.name == name)
    plain = sample(model, node)
    for patched in both_orders(gated, node, model, gate=2.0):
        sample(patched, node)
        assert torch.equal(sample(model, node), plain)
        left = {type(a.__dict__.get("forward")).__name__ for b in tiny.blocks(model) for a in (b.attn1, b.attn2)}
        assert left <= {"NoneType", "method"}  # the host itself, and others, put back a bound method
