"""The table of networks: what is recognised, which modules are attentions, and how many tokens a latent has."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tgate_core.engine.actions import SELF_ATTENTION
from tgate_core.host.architectures import (
    ARCHITECTURES,
    COSMOS,
    HUNYUAN_DIT,
    HUNYUAN_VIDEO,
    LTXV,
    LUMINA,
    MOCHI,
    PIXART,
    SD3,
    STABLE_AUDIO,
    WAN,
    SiteRule,
    architecture_of,
    architecture_of_config,
    attention_sites,
    inline_sites,
    pack,
    unpack,
    why_unknown,
)

TOKENS = torch.zeros(1, 2, 3)


def network_of(path: str, *bases: type) -> nn.Module:
    """An empty network whose class has this full name."""
    module, name = path.rsplit(".", 1)
    return type(name, bases or (nn.Module,), {"__module__": module})()


def blocks(count: int, *names: str) -> nn.ModuleList:
    return nn.ModuleList(nn.ModuleDict({name: nn.Module() for name in names}) for _ in range(count))


@pytest.mark.parametrize("known", ARCHITECTURES, ids=lambda known: known.name)
def test_a_network_is_known_by_its_class_and_those_derived_from_it(known):
    for path in known.classes:
        network = network_of(path)
        assert architecture_of(network) is known
        assert architecture_of(network_of("elsewhere.Variant", type(network))) is known


@pytest.mark.parametrize(
    ("name", "image_model", "expected"),
    [("MingImage", "ming_image", LUMINA), ("WAN_Animate2", "wan2.1", None), ("WAN22_Animate", "wan2.1", WAN)],
)
def test_models_of_newer_hosts_are_known_by_what_their_files_say(name, image_model, expected):
    """What the host makes of a file: a class of its own, and the configuration of the network."""
    config = type(name, (), {"unet_config": {"image_model": image_model}})()
    assert architecture_of_config(config) is expected


@pytest.mark.parametrize(
    "path", ["comfy.ldm.cogvideo.model.CogVideoXTransformer3DModel", "elsewhere.WanModel", "comfy.ldm.wan.model.Wan"]
)
def test_another_class_is_not_known(path):
    assert architecture_of(network_of(path)) is None


@pytest.mark.parametrize(
    ("path", "parent", "reason"),
    [
        ("comfy.ldm.wan.ar_model.CausalWanModel", "comfy.ldm.wan.model.WanModel", "autoregressive Wan"),
        ("comfy.ldm.wan.model_animate2.WanAnimate2Model", "comfy.ldm.wan.model.WanModel", "Wan-Animate 2"),
    ],
)
def test_networks_with_rules_of_their_own_are_left_alone(path, parent, reason):
    network = network_of(path, type(network_of(parent)))
    for excluded in (network, network_of("elsewhere.Variant", type(network))):
        assert architecture_of(excluded) is None
        assert why_unknown(type(excluded)).startswith(reason)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("comfy.ldm.cogvideo.model.CogVideoXTransformer3DModel", "T-GATE leaves the attention of this network alone"),
        ("comfy.ldm.hunyuan3dv2_1.hunyuandit.HunYuanDiTPlain", "T-GATE leaves the attention of this network alone"),
        ("comfy.ldm.flux.model.Flux", "joint attention"),
        ("pack.sd.ReUNetModel", "another node runs this model by code of its own (ReUNetModel)"),
    ],
)
def test_what_is_not_known_has_its_own_reason(path, reason):
    assert why_unknown(type(network_of(path))).startswith(reason)


def test_attentions_are_found_by_their_full_names():
    network = nn.Module()
    network.blocks = blocks(2, "self_attn", "cross_attn", "ffn")
    network.vace_blocks = blocks(1, "self_attn", "cross_attn")
    network.adapter = nn.Module()
    network.adapter.blocks = blocks(1, "self_attn", "cross_attn")
    assert [(site.name, site.rule.kind) for site in attention_sites(network, WAN)] == [
        ("blocks.0.self_attn", "attn1"),
        ("blocks.0.cross_attn", "attn2"),
        ("blocks.1.self_attn", "attn1"),
        ("blocks.1.cross_attn", "attn2"),
        ("vace_blocks.0.self_attn", "attn1"),
        ("vace_blocks.0.cross_attn", "attn2"),
    ]


def test_attentions_within_blocks_are_named_by_their_block():
    network = nn.Module()
    network.joint_blocks = blocks(2, "x_block")
    for number, block in enumerate(network.joint_blocks):
        block["x_block"].x_block_self_attn = number == 0
        block.x_block = block["x_block"]
    assert inline_sites(network, SD3) == {
        ("double", 0): ("joint_blocks.0", "joint_blocks.0.second"),
        ("double", 1): ("joint_blocks.1",),
    }


def test_one_name_may_stand_for_both_kinds_of_attention():
    kinds = {"0": True, "1": False, "2": None}  # the third is a feed-forward
    block = nn.ModuleDict({name: nn.ModuleDict({"block": nn.ModuleDict({"attn": nn.Module()})}) for name in kinds})
    for name, is_self in kinds.items():
        if is_self is not None:
            block[name]["block"]["attn"].is_selfattn = is_self
    network = nn.ModuleDict({"blocks": nn.ModuleDict({"block0": nn.ModuleDict({"blocks": block})})})
    assert [site.rule.kind for site in attention_sites(network, COSMOS)] == ["attn1", "attn2"]


@pytest.mark.parametrize(
    ("known", "attributes", "size", "tokens"),
    [
        (PIXART, {"patch_size": 2}, (64, 96), 32 * 48),
        (PIXART, {"patch_size": 2}, (65, 96), 33 * 48),
        (WAN, {"patch_size": (1, 2, 2)}, (21, 60, 104), 21 * 30 * 52),
        (LTXV, {}, (13, 16, 24), 13 * 16 * 24),
        (COSMOS, {"patch_temporal": 1, "patch_spatial": 2}, (16, 88, 160), 16 * 44 * 80),
        (COSMOS, {"patch_temporal": 1, "patch_spatial": 2}, (88, 160), 44 * 80),
        (STABLE_AUDIO, {"patch_size": 1}, (1024,), 1024),
        (HUNYUAN_VIDEO, {"patch_size": [1, 2, 2]}, (19, 60, 106), 19 * 30 * 53),
        (MOCHI, {"x_embedder": SimpleNamespace(proj=SimpleNamespace(stride=(2, 2)))}, (7, 60, 106), 7 * 30 * 53),
    ],
)
def test_tokens_of_a_latent(known, attributes, size, tokens):
    assert known.token_count(SimpleNamespace(**attributes), size) == tokens


@pytest.mark.parametrize("tail", [None, (), (None,)])
def test_what_an_attention_returns_is_taken_apart_and_put_together(tail):
    rule = SiteRule("attn1", "", tail=tail)
    result = pack(TOKENS, rule)
    assert result is TOKENS if tail is None else result == (TOKENS, *tail)
    assert unpack(result, rule) is TOKENS


@pytest.mark.parametrize(
    ("tail", "result"), [(None, (TOKENS,)), ((), TOKENS), ((), (TOKENS, TOKENS)), ((None,), (TOKENS, TOKENS))]
)
def test_another_form_than_expected_is_refused(tail, result):
    assert unpack(result, SiteRule("attn1", "", tail=tail)) is None


def test_hunyuan_returns_tuples():
    assert {rule.tail for rule in HUNYUAN_DIT.rules} == {()}


def test_picture_and_text_of_two_streams_are_one_capture():
    rule = SiteRule(SELF_ATTENTION, "attn")
    streams = torch.rand(2, 5, 3), torch.rand(2, 4, 3)
    tokens = unpack(streams, rule, [5, 4])
    assert tokens is not None
    assert all(torch.equal(*pair) for pair in zip(pack(tokens, rule, [5, 4]), streams, strict=True))
    assert unpack(streams, rule, [4, 5]) is None
    assert unpack(streams[0], rule, [5, 4]) is None
