"""The trained weights of the repository: what they paint, and the checkpoint of full size that is built from them."""

from __future__ import annotations

from typing import Any

import comfy.ops
import comfy.quant_ops
import comfy.sd
import comfy.supported_models
import pytest
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from tgate_dev.scenes import checkpoint, dit, painting, text, unet, vae, weights, world
from tgate_dev.scenes.judge import share_right

PROMPTS = ["red circle left of blue square", "white bar above pink ring", ""]


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any, Any]:
    """UNet, text encoder and VAE, as the host's loader of checkpoints makes them."""
    model, clip, decoder, _ = comfy.sd.load_state_dict_guess_config(checkpoint.state())
    return model, clip, decoder


@pytest.mark.slow
@pytest.mark.parametrize("name", painting.NETWORKS)
def test_prompts_come_out_right(name: str) -> None:
    attributes, noise = world.measuring_set(48)
    latents = painting.paint(painting.load_model(name), attributes, noise)
    pictures = painting.pictures(painting.load_decoder(), latents)
    assert painting.load_judge().right(pictures, attributes).float().mean() >= 0.95


@pytest.mark.parametrize("name", painting.NETWORKS)
def test_a_gated_network_paints_nearly_the_same(name: str, gated: Any) -> None:
    attributes, noise = world.measuring_set(2)
    model = painting.load_model(name)
    models = (model, gated(model, guidance="cached_delta"))
    plain, changed = (painting.paint(one, attributes, noise, steps=8) for one in models)
    assert 0.01 < (changed - plain).square().mean().sqrt() < 0.5


def test_judge_knows_scenes_that_it_has_not_seen() -> None:
    assert share_right(painting.load_judge()) >= 0.995


def test_decoder_draws_the_scene() -> None:
    pictures = world.draw(16, torch.Generator().manual_seed(6)).pictures
    error = painting.pictures(painting.load_decoder(), vae.latents(pictures)) - pictures
    assert error.square().mean().sqrt() < 0.05


def test_weights_are_small() -> None:
    assert sum(path.stat().st_size for path in weights.FOLDER.glob("*.safetensors")) <= 16 * 2**20


def test_attention_with_a_gradient_computes_what_the_hosts_kernel_does() -> None:
    generator = torch.Generator().manual_seed(9)
    query, key = (torch.randn(2, 64, 4, 32, generator=generator) for _ in range(2))
    turns, scale = torch.randn(1, 64, 1, 16, 2, 2, generator=generator), torch.rand(32, generator=generator)
    arguments = (query, key, turns, scale, 2 * scale, 1e-6)
    expected = comfy.quant_ops.ck.rms_rope_split_half(*arguments)
    for ours, theirs in zip(dit.rms_rope_split_half(*arguments), expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_widened_network_computes_what_the_small_one_does() -> None:
    wide = UNetModel(**unet.WIDE_CONFIG, operations=comfy.ops.disable_weight_init)
    wide.load_state_dict(checkpoint.wide_unet())
    small = painting.load_model().model.diffusion_model
    generator = torch.Generator().manual_seed(7)
    noise, times = torch.randn(2, 4, 16, 16, generator=generator), torch.tensor([900.0, 30.0])
    context = text.padded(text.conditioning(PROMPTS[:2]))
    with torch.no_grad():
        expected, computed = (network(noise, times, context=context) for network in (small, wide))
    assert (computed - expected).abs().max() < 1e-4 * expected.std()


def test_host_takes_the_checkpoint_for_sd15(loaded: tuple[Any, Any, Any]) -> None:
    model, _, _ = loaded
    assert type(model.model.model_config) is comfy.supported_models.SD15


def test_text_encoder_gives_the_vectors_of_the_training(loaded: tuple[Any, Any, Any]) -> None:
    _, clip, _ = loaded
    for prompt in PROMPTS:
        encoded = clip.encode_from_tokens(clip.tokenize(prompt))
        assert torch.allclose(encoded, text.padded(text.conditioning([prompt])), atol=1e-3)


def test_vae_decodes_and_encodes_the_latents_of_the_training(loaded: tuple[Any, Any, Any]) -> None:
    model, _, coder = loaded
    pictures = world.draw(2, torch.Generator().manual_seed(8)).pictures
    latents = vae.latents(pictures)
    form = model.get_model_object("latent_format")
    encoded = form.process_in(coder.encode(pictures.movedim(1, -1)))
    assert torch.allclose(encoded, latents, atol=0.01)
    decoded = coder.decode(form.process_out(latents)).movedim(-1, 1)
    expected = painting.pictures(painting.load_decoder(), latents)
    assert torch.allclose(decoded, expected, atol=0.01)
