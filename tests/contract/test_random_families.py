"""Random graphs of networks other than UNets, see `random_graphs`. TGATE_EXAMPLES sets how many."""

from __future__ import annotations

from functools import partial

import foreign_nodes
import hypothesis
import pytest
from comfy_extras.nodes_cfg import CFGNorm
from comfy_extras.nodes_pag import PerturbedAttentionGuidance
from families import FAMILIES
from family_nodes import FAMILY_NODES, nodes_for
from joint_families import JOINT_FAMILIES
from random_graphs import FORECAST, MEASURED, Node, check, graphs, models_of, searching

pytestmark = pytest.mark.random

KNOWN = [family for family in FAMILIES if family.is_available]
OTHER_NODES: dict[str, Node] = {
    "CFGNorm": lambda model: CFGNorm.execute(model, 0.9)[0],
    "PAG": lambda model: PerturbedAttentionGuidance.execute(model, 1.0)[0],
    "unet wrapper": foreign_nodes.unet_wrapper,
    "cfg function": foreign_nodes.cfg_function,
    "post-cfg function": foreign_nodes.post_cfg_function,
    "calc_cond_batch function": foreign_nodes.calc_cond_batch_function,
}
JOINT = [family for family in JOINT_FAMILIES if family.is_available]
JOINT_NODES: dict[str, Node] = {
    **OTHER_NODES,
    "override": foreign_nodes.attention_override,
    "override at each step": foreign_nodes.override_at_each_step,
    "block replacement": lambda model: FAMILY_NODES["block replacement"](model, JOINT[0]),
}
# Their conds see each other in a batch, or change places, with or without T-GATE.
DEPEND_ON_BATCH = {"ACE-Step 1.5", "Hunyuan3D 2.1"}


@pytest.fixture(scope="module")
def models():
    with models_of(KNOWN) as made:
        yield made


@pytest.fixture(scope="module")
def joint_models():
    with models_of(JOINT) as made:
        yield made


@searching(examples=20)
@hypothesis.given(graph=graphs(KNOWN, [*OTHER_NODES, *FAMILY_NODES, FORECAST]))
def test_random_graphs(models, gated, forecast, pack, graph):
    own = {name: partial(node, family=graph.family) for name, node in nodes_for(graph.family).items()}
    nodes = {**OTHER_NODES, **own, FORECAST: partial(forecast, strength=2, start=0.0, end=1.0)}
    hypothesis.assume(nodes.keys() >= {*graph.before, *graph.behind})
    check(graph, models[graph.family.name], gated, pack, nodes, DEPEND_ON_BATCH)


@pytest.mark.newest
@searching(examples=10)
@hypothesis.given(graph=graphs(JOINT, [*JOINT_NODES, FORECAST]))
def test_random_graphs_of_joint_attention(joint_models, gated, forecast, pack, graph):
    """As modules, within blocks, or left alone: of those nothing can be measured."""
    hypothesis.assume(graph.family.is_reused or graph.settings["gate_unit"] != MEASURED)
    nodes = {**JOINT_NODES, FORECAST: partial(forecast, strength=2, start=0.0, end=1.0)}
    check(graph, joint_models[graph.family.name], gated, pack, nodes, DEPEND_ON_BATCH)
