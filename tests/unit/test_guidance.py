import pytest
import torch

from tgate_core.guidance import noise_space_difference, uncond_from_difference

SHAPE = (2, 4, 8, 8)


def prediction(seed):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_difference_is_that_of_the_predicted_noises():
    x, sigma, eps_cond, eps_uncond = prediction(0), 3.0, prediction(1), prediction(2)
    difference = noise_space_difference(x - sigma * eps_cond, x - sigma * eps_uncond, sigma)
    torch.testing.assert_close(difference, eps_uncond - eps_cond)


def test_by_numbers():
    cond, uncond = torch.tensor([7.0]), torch.tensor([1.0])
    assert noise_space_difference(cond, uncond, 2.0).tolist() == [3.0]
    assert uncond_from_difference(torch.tensor([10.0]), torch.tensor([3.0]), 0.5).tolist() == [8.5]


def test_at_its_own_noise_level_the_difference_gives_the_uncond_prediction_back():
    cond, uncond = prediction(1), prediction(2)
    difference = noise_space_difference(cond, uncond, 5.0)
    torch.testing.assert_close(uncond_from_difference(cond, difference, 5.0), uncond)


@pytest.mark.parametrize("scale", [1.0, 4.0, 7.5])
@pytest.mark.parametrize("sigma", [14.6, 2.0, 0.03])
def test_classifier_free_guidance_adds_the_kept_difference_at_full_scale(scale, sigma):
    difference = noise_space_difference(prediction(1), prediction(2), 6.0)
    cond = prediction(3)
    uncond = uncond_from_difference(cond, difference, sigma)
    guided = uncond + scale * (cond - uncond)
    torch.testing.assert_close(guided, cond + (scale - 1) * difference * sigma)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_precision_of_the_predictions_is_kept(dtype):
    ones = torch.ones(SHAPE, dtype=dtype)
    difference = noise_space_difference(ones, ones, 2.0)
    assert difference.dtype == torch.promote_types(dtype, torch.float32)
    assert uncond_from_difference(ones, difference, 2.0).dtype == dtype


@pytest.mark.parametrize(
    ("cond", "uncond", "sigma"),
    [
        pytest.param(40000.0, -40000.0, 4.0, id="their difference is beyond fp16"),
        pytest.param(3.0, -5.0, 1e-5, id="over a small sigma it is"),
    ],
)
def test_half_precision_does_not_overflow(cond, uncond, sigma):
    cond, uncond = torch.tensor([cond]).half(), torch.tensor([uncond]).half()
    difference = noise_space_difference(cond, uncond, sigma)
    torch.testing.assert_close(uncond_from_difference(cond, difference, sigma), uncond)


def test_the_difference_holds_no_graph_and_what_follows_from_it_has_that_of_its_own_prediction():
    cond, uncond = prediction(1).requires_grad_(), prediction(2).requires_grad_()
    difference = noise_space_difference(cond, uncond, 5.0)
    assert not difference.requires_grad
    (gradient,) = torch.autograd.grad(uncond_from_difference(cond, difference, 5.0).sum(), cond)
    assert torch.equal(gradient, torch.ones_like(cond))
