"""The figures of a run: how far from plain, how much is right, and what it cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count
from torchmetrics.functional.image import structural_similarity_index_measure

CONFIDENCE = 0.95
Result = TypeVar("Result")


class Interval(NamedTuple):
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


def share(right: Sequence[int]) -> Interval:
    """The share of ones, with Wilson's interval."""
    interval = stats.binomtest(sum(right), len(right)).proportion_ci(CONFIDENCE, "wilson")
    return Interval(sum(right) / len(right), interval.low, interval.high)


def mean(values: Sequence[float]) -> Interval:
    """The mean, with Student's interval."""
    center, error = float(np.mean(values)), float(stats.sem(values)) if len(values) > 1 else float("inf")
    reach = error * float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) if len(values) > 1 else error
    return Interval(center, center - reach, center + reach)


def distance(latents: Tensor, plain: Tensor) -> Tensor:
    """RMS of the difference of latents with a deviation of 1: (batch, channels, height, width) twice, to (batch,)."""
    return (latents - plain).flatten(1).square().mean(1).sqrt()


def similarity(pictures: Tensor, plain: Tensor) -> Tensor:
    """SSIM of pictures from 0 to 1: (batch, 3, height, width) twice, to (batch,)."""
    compared = structural_similarity_index_measure(pictures, plain, data_range=1.0, reduction="none")
    assert isinstance(compared, Tensor)
    return compared.reshape(len(pictures))


def counting_macs(run: Callable[[], Result]) -> tuple[Result, dict[str, int]]:
    """What `run` returns, and the MACs of the matrix products and convolutions that torch really computed in it.

    They are counted by module, as named in its network, with those of its own modules; "" is all.
    """
    # The counter knows attention in all of torch's kernels but the CPU's.
    kernels = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}
    with FlopCounterMode(display=False, custom_mapping=kernels) as counter:
        result = run()
    flops = counter.get_flop_counts()
    # Two names have no dot: that of all, and that of the network, whose own say nothing more.
    named = {name.partition(".")[2]: name for name in flops if "." in name} | {"": "Global"}
    return result, {short: sum(flops[name].values()) // 2 for short, name in named.items() if name in flops}


def _attention_flops(query: torch.Size, key: torch.Size, value: torch.Size, *_: object, **__: object) -> int:
    count: Callable[..., int] = sdpa_flop_count
    return count(query, key, value)
