"""Random graphs of UNets, see `random_graphs`. TGATE_EXAMPLES sets how many: the nightly run has many more."""

from __future__ import annotations

import itertools
import logging
from functools import partial

import foreign_nodes
import hypothesis
import moving
import pytest
import tiny
import variants
from comfy_extras.nodes_cfg import CFGNorm
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
from comfy_extras.nodes_freelunch import FreeU_V2
from comfy_extras.nodes_hypertile import HyperTile
from comfy_extras.nodes_pag import PerturbedAttentionGuidance
from comfy_extras.nodes_sag import SelfAttentionGuidance
from comfy_extras.nodes_tomesd import TomePatchModel
from families import Family
from random_graphs import DEEP_CACHE, FORECAST, Node, check, graphs, models_of, searching

pytestmark = pytest.mark.random

_PICTURE = {"latent": (4, 8, 8), "text_width": tiny.CONTEXT, "text_lengths": (8, 8, 9)}
SIZES = ((8, 8), (8, 8), (8, 12), (16, 8))
# Two levels, so that areas, tiles and tokens differ in size; one level, so that most examples are cheap.
ONE_LEVEL = Family("one level", "SD15", {**tiny.SD15_UNET, **variants.ONE_LEVEL}, **_PICTURE, sizes=SIZES)
TWO_LEVELS = Family("two levels", "SD15", tiny.SD15_UNET, **_PICTURE, sizes=SIZES)
OTHER_NODES: dict[str, Node] = {
    "FreeU_V2": lambda model: FreeU_V2.execute(model, 1.3, 1.4, 0.9, 0.2)[0],
    "CFGNorm": lambda model: CFGNorm.execute(model, 0.9)[0],
    "PAG": lambda model: PerturbedAttentionGuidance.execute(model, 1.0)[0],
    "SAG": lambda model: SelfAttentionGuidance.execute(model, 0.5, 2.0)[0],
    "HyperTile": lambda model: HyperTile.execute(model, 32, 1, 1, True)[0],
    "ToMe": lambda model: TomePatchModel.execute(model, 0.5)[0],
    "attn1 pair": foreign_nodes.shrinking_pair,
    "in-place output patch": foreign_nodes.in_place_output_patch,
    "unet wrapper": foreign_nodes.unet_wrapper,
    "cfg function": foreign_nodes.cfg_function,
    "post-cfg function": foreign_nodes.post_cfg_function,
    "calc_cond_batch function": foreign_nodes.calc_cond_batch_function,
    "injection": foreign_nodes.forward_injection,
    "EasyCache": lambda model: EasyCacheNode.execute(model, 0.2, 0.1, 0.95, False)[0],
    "LazyCache": lambda model: LazyCacheNode.execute(model, 0.2, 0.1, 0.95, False)[0],
    **moving.NODES,
}
STEP_CACHES = {"EasyCache", "LazyCache"}
# These make their result depend on the batch with or without T-GATE: one generator for all rows, statistics over rows,
# and a decision taken at the first cond of the first network call, whichever that is.
DEPEND_ON_BATCH = {"ToMe", "SAG", "EasyCache"}

_log = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def models():
    with models_of((ONE_LEVEL, TWO_LEVELS)) as made:
        yield made


@pytest.fixture(scope="module")
def checked():
    """Counts the graphs that passed; a long search shows how far it is with `--log-cli-level=INFO`."""
    return itertools.count(1)


@searching(examples=60)
@hypothesis.given(
    graph=graphs([ONE_LEVEL, ONE_LEVEL, TWO_LEVELS], [*OTHER_NODES, DEEP_CACHE, FORECAST], moving.SAMPLERS)
)
def test_random_graphs(models, gated, deep, forecast, pack, checked, graph):
    # These fail on their own, see test_network_runs.py; whether a run comes to that hangs on its values.
    others = {*graph.before, *graph.behind}
    hypothesis.assume(graph.run["sampler"] != "resizing" or not others & STEP_CACHES)
    nodes = {**OTHER_NODES, DEEP_CACHE: deep, FORECAST: partial(forecast, strength=2, start=0.0, end=1.0)}
    check(graph, models[graph.family.name], gated, pack, nodes, DEPEND_ON_BATCH)
    passed = next(checked)
    if passed % 100 == 0:
        _log.info("%d graphs passed", passed)
