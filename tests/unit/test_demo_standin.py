"""The demo's stand-in checkpoint: what ComfyUI takes it for, and that it is always the same."""

from __future__ import annotations

import comfy.model_detection
import comfy.supported_models
import pytest
import torch

from tgate_dev.demo import standin

ALL_PREFIXES = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model.")


@pytest.fixture(scope="module")
def shapes() -> dict[str, torch.Tensor]:
    """Every parameter by its name in the checkpoint, without values."""
    modules = standin.architecture()
    assert tuple(modules) == ALL_PREFIXES
    return {prefix + name: value for prefix, module in modules.items() for name, value in module.named_parameters()}


def test_comfyui_takes_it_for_sd15(shapes: dict[str, torch.Tensor]) -> None:
    config = comfy.model_detection.model_config_from_unet(shapes, "model.diffusion_model.")
    assert type(config) is comfy.supported_models.SD15


def test_comfyui_rebuilds_the_same_unet(shapes: dict[str, torch.Tensor]) -> None:
    config = comfy.model_detection.model_config_from_unet(shapes, "model.diffusion_model.")
    with torch.device("meta"):
        rebuilt = config.get_model({}, "").diffusion_model
    expected = {name: tuple(value.shape) for name, value in shapes.items() if name.startswith("model.diffusion_model.")}
    assert {f"model.diffusion_model.{n}": tuple(p.shape) for n, p in rebuilt.named_parameters()} == expected


def test_weights_depend_on_their_name_alone() -> None:
    first, again, other = (standin.initial(name, (8, 8)) for name in ("a.weight", "a.weight", "b.weight"))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_norms_begin_neutral() -> None:
    assert torch.equal(standin.initial("norm.weight", (4,)), torch.ones(4))
    assert torch.equal(standin.initial("norm.bias", (4,)), torch.zeros(4))


def test_layers_keep_the_size_of_what_passes_through() -> None:
    weight = standin.initial("proj.weight", (512, 256, 3, 3))
    assert weight.std() == pytest.approx((256 * 9) ** -0.5, rel=0.01)


def test_prediction_resembles_the_input() -> None:
    weights = {
        "model.diffusion_model.input_blocks.0.0.weight": torch.randn(320, 4, 3, 3),
        "model.diffusion_model.out.2.weight": torch.randn(4, 320, 3, 3) / 50,
    }
    standin.tie_output_to_input(weights)
    first, last = weights.values()
    through = torch.einsum("oc,ci->oi", last[:, :, 1, 1], first[:, :, 1, 1])
    assert torch.linalg.cond(through) < 3
    assert torch.diagonal(through).min() > 0.5
