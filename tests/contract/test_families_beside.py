"""Networks other than UNets, beside other nodes that hook the network: each keeps its effect, in both orders."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from families import FAMILIES, Family
from family_nodes import nodes_for
from tiny import distance

pytestmark = pytest.mark.newest

SCHEDULE = {"gate": 4, "sp_interval": 2, "fi_interval": 2, "warm_up": 1}
ROUNDING = 1e-5
PAIRS = [(family, name) for family in FAMILIES if family.is_available for name in nodes_for(family)]


@cache
def model_of(family_name: str):
    """The model of a family, made once."""
    return next(family for family in FAMILIES if family.name == family_name).make()


@cache
def without_ours(family_name: str, name: str):
    """What both orders are compared with: the run of a node alone, and on the reference."""
    family = next(family for family in FAMILIES if family.name == family_name)
    other = nodes_for(family)[name](model_of(family_name), family)
    return family.sample(other), family.sample(family.reference(other, **SCHEDULE))


@pytest.fixture(scope="module", autouse=True)
def forget_models():
    yield
    model_of.cache_clear()
    without_ours.cache_clear()


@pytest.mark.parametrize("order", ["ours first", "ours last"])
@pytest.mark.parametrize(("family", "name"), PAIRS, ids=lambda value: getattr(value, "name", value))
def test_beside_nodes_that_hook_the_network(family: Family, name, order, gated):
    model, other = model_of(family.name), nodes_for(family)[name]

    def gate(model, **settings):
        return gated(model, **{**SCHEDULE, "gate": 4.0, **settings})

    def beside(**settings):
        is_first = order == "ours first"
        return other(gate(model, **settings), family) if is_first else gate(other(model, family), **settings)

    alone, expected = without_ours(family.name, name)
    assert torch.equal(family.sample(beside(gate=100.0)), alone)
    result = family.sample(beside())
    assert distance(result, expected) < ROUNDING
    assert distance(expected, family.sample(gate(model))) > 100 * ROUNDING
