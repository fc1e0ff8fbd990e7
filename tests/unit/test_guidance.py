import pytest
import torch

from tgate_core.gate.guidance import noise_space_difference, uncond_from_difference

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


def test_the_precision_of_the_predictions_is_kept():
    half = torch.ones(SHAPE, dtype=torch.float16)
    difference = noise_space_difference(half, half, 2.0)
    assert difference.dtype == torch.float16
    assert uncond_from_difference(half, difference, 2.0).dtype == torch.float16
