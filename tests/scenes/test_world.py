"""The world of scenes: its prompts, its pictures, and the vectors of its words."""

from __future__ import annotations

import itertools
import math

import comfy.sd1_clip
import pytest
import torch
from comfy.ldm.modules.attention import attention_pytorch

from tgate_dev.scenes import text, unet, vae, world


def drawn(count: int, seed: int, size: int = world.SIZE) -> world.Scenes:
    return world.draw(count, torch.Generator().manual_seed(seed), size)


def test_there_are_4608_prompts() -> None:
    rows = itertools.product(*(range(len(words)) for words in world.WORDS))
    assert len({world.prompt(torch.tensor(row)) for row in rows}) == 4608
    assert world.prompt(torch.tensor([0, 0, 0, 2, 1])) == "red circle left of blue square"


def test_drawing_is_seeded() -> None:
    first, again, other = drawn(4, 1), drawn(4, 1), drawn(4, 2)
    assert torch.equal(first.pictures, again.pictures)
    assert torch.equal(first.attributes, again.attributes)
    assert not torch.equal(first.pictures, other.pictures)


def test_colours_and_places_are_those_of_the_prompt() -> None:
    scenes = drawn(64, 3)
    palette = torch.tensor(list(world.COLOURS.values()))
    for picture, row in zip(scenes.pictures, scenes.attributes, strict=True):
        side = 2 - int(row[2])  # the first object is in the left half, or in the upper one
        for half, colour in zip(picture.chunk(2, side), (row[0], row[3]), strict=True):
            matches = (half - palette[colour].view(3, 1, 1)).abs().amax(0) < 1e-5
            assert matches.float().mean() > 0.02


def test_pictures_of_two_sizes_show_the_same() -> None:
    small, large = drawn(8, 4), drawn(8, 4, 2 * world.SIZE)
    halved = torch.nn.functional.avg_pool2d(large.pictures, 2)
    assert (halved - small.pictures).abs().mean() < 0.005


def test_measuring_prompts_stay_the_same() -> None:
    attributes, noise = world.measuring_set(48)
    assert world.prompt(attributes[0]) == "white triangle above pink square"
    assert noise.shape == (48, 4, 16, 16)
    assert noise[0, 0, 0, 0].item() == pytest.approx(-0.80936486)


def test_nothing_is_trained_on_measuring_prompts() -> None:
    held_out = {tuple(row.tolist()) for row in world.measuring_set(204)[0]}
    trained = world.draw_to_train_on(3000, torch.Generator().manual_seed(6), 8).attributes
    assert len(held_out) == 204
    assert held_out.isdisjoint(tuple(row.tolist()) for row in trained)


def test_some_prompts_are_dropped() -> None:
    attributes = drawn(1000, 7).attributes
    prompts = world.prompts_to_train_on(attributes, torch.Generator().manual_seed(8))
    assert 70 < prompts.count("") < 130
    assert all(said in ("", world.prompt(row)) for said, row in zip(prompts, attributes, strict=True))


def test_latents_are_scaled() -> None:
    latents = vae.latents(drawn(500, 5).pictures)
    assert latents.mean((0, 2, 3)) == pytest.approx(torch.zeros(4).numpy(), abs=0.05)
    assert latents.std((0, 2, 3)) == pytest.approx(torch.ones(4).numpy(), abs=0.05)


def test_each_word_is_the_token_that_the_host_makes_of_it() -> None:
    tokens = comfy.sd1_clip.SD1Tokenizer().tokenize_with_weights(" ".join(text.TOKENS))["l"][0]
    assert [token for token, _ in tokens[: len(text.TOKENS) + 2]] == [text.START, *text.TOKENS.values(), text.END]


def test_padding_seen_as_one_place_weighs_as_much_as_all_of_it() -> None:
    condition = text.conditioning(["red circle left of blue square", ""])
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, length, 16, generator=generator) for length in (5, 9, 9))
    full = attention_pytorch(query, text.padded(key), text.padded(value), 2)
    assert text.padded(condition).shape == (2, 77, text.WIDTH)
    assert torch.allclose(unet.compact_attention(None, query, key, value, 2), full, atol=1e-6)
    assert unet.padding_weight()[-1] == pytest.approx(math.log(69))
