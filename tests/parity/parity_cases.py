"""What both sides of the parity check share: two small models, their weights and inputs, and the schedules.

Needs numpy only, so that the published package's environment and the ComfyUI one can both import it. Nothing
random is stored: every tensor is drawn from a seed made of its own name.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 5e-4  # largest difference allowed, in units of the published latents' standard deviation

STEPS = 12
CONTEXT_DIM = 32
POOLED_DIM = 32
TEXT_TOKENS = 10
LATENT_CHANNELS = 4

# Random weights make a bland network. These factors give the text a visible say in the picture (sharper attention,
# louder attention output), so that a wrong branch or a wrong capture cannot hide below the tolerance.
_GAINS = {
    "attn1.to_q": 1.5,
    "attn1.to_k": 1.5,
    "attn1.to_out.0": 2.0,
    "attn2.to_q": 1.5,
    "attn2.to_k": 1.5,
    "attn2.to_out.0": 2.0,
}


@dataclass(frozen=True)
class ModelShape:
    """A small UNet: one residual block per level, transformers of the given depth (0: none) per level."""

    name: str
    channels: tuple[int, ...]
    transformer_depth: tuple[int, ...]
    heads: tuple[int, ...]
    linear_projection: bool
    pooled: bool


@dataclass(frozen=True)
class Schedule:
    """The published package's own four numbers, in steps."""

    gate: int
    sp_interval: int = 1
    fi_interval: int = 1
    warm_up: int = 0


@dataclass(frozen=True)
class Case:
    """One sampling run. `height` and `width` are in latent pixels; `schedule` None is plain sampling."""

    name: str
    schedule: Schedule | None = None
    height: int = 16
    width: int = 16
    batch: int = 1
    cfg: float = 5.0

    @property
    def plain(self) -> Case:
        """The same run without T-GATE, which is itself one of the cases."""
        return next(c for c in PLAIN_CASES if (c.height, c.width, c.batch, c.cfg) == self.inputs)

    @property
    def inputs(self) -> tuple[int, int, int, float]:
        return self.height, self.width, self.batch, self.cfg


@dataclass(frozen=True)
class Inputs:
    """Noise (batch, 4, height, width); text (batch, tokens, context); pooled (batch, pooled); sizes in pixels."""

    noise: NDArray[np.float32]
    positive: NDArray[np.float32]
    negative: NDArray[np.float32]
    positive_pooled: NDArray[np.float32]
    negative_pooled: NDArray[np.float32]
    positive_size: tuple[int, int]
    negative_size: tuple[int, int]
    target_size: tuple[int, int]


MODELS = {
    "sd15": ModelShape("sd15", (32, 64, 128), (1, 1, 0), (8, 8, 8), linear_projection=False, pooled=False),
    # SDXL fixes 64 channels per head; its first level has no transformer.
    "sdxl": ModelShape("sdxl", (32, 64, 128), (0, 1, 2), (1, 1, 2), linear_projection=True, pooled=True),
}

PLAIN_CASES = (
    Case("plain"),
    Case("plain_non_square", height=16, width=24),
    Case("plain_batch_2", batch=2),
    Case("plain_no_guidance", cfg=1.0),
)

GATED_CASES = (
    Case("cross_attention_only", Schedule(gate=5)),
    Case("self_attention_interval_3", Schedule(gate=8, sp_interval=3, warm_up=2)),
    Case("self_attention_interval_5", Schedule(gate=10, sp_interval=5, warm_up=2)),
    Case("fidelity_interval_2", Schedule(gate=3, fi_interval=2)),
    Case("warm_up_0", Schedule(gate=8, sp_interval=3)),
    Case("warm_up_3", Schedule(gate=9, sp_interval=4, fi_interval=2, warm_up=3)),
    Case("gate_1", Schedule(gate=1)),
    Case("gate_is_steps", Schedule(gate=STEPS)),
    Case("non_square", Schedule(gate=5, sp_interval=3, fi_interval=2, warm_up=1), height=16, width=24),
    Case("batch_2", Schedule(gate=5, sp_interval=3, fi_interval=2, warm_up=1), batch=2),
    Case("no_guidance", Schedule(gate=4, sp_interval=2, fi_interval=2), cfg=1.0),
)


def cases(model: str) -> tuple[Case, ...]:
    """Every case of a model. The package runs T-GATE without guidance for SDXL only (its `lcm` switch)."""
    chosen = PLAIN_CASES + GATED_CASES
    return chosen if model == "sdxl" else tuple(case for case in chosen if case.cfg > 1.0)


def draw(name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Standard normal numbers that depend on the name alone. `RandomState`'s stream is frozen across numpy versions."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    return np.random.RandomState(seed).standard_normal(shape)


def weight(model: str, parameter: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The stand-in weight of one parameter, named as diffusers names it."""
    values = draw(f"{model}/{parameter}", shape)
    module, kind = parameter.rsplit(".", 1)
    if len(shape) == 1:
        values = 0.1 * values + (1.0 if "norm" in module.rsplit(".", 1)[-1] and kind == "weight" else 0.0)
    else:
        gain = next((gain for suffix, gain in _GAINS.items() if module.endswith(suffix)), 1.0)
        values *= gain / math.sqrt(math.prod(shape[1:]))
    return values.astype(np.float32)


def make_inputs(model: str, case: Case) -> Inputs:
    """The inputs of a case: runs of one size share their noise, so a schedule and its plain run can be compared."""

    def tensor(name: str, *shape: int) -> NDArray[np.float32]:
        return draw(f"{model}/{name}", shape).astype(np.float32)

    # The package mixes the two branches' sizes up when both the batch and the sizes differ; there they are equal.
    negative_size = (512, 640) if case.batch == 1 else (1024, 768)
    return Inputs(
        noise=tensor("noise", case.batch, LATENT_CHANNELS, case.height, case.width),
        positive=tensor("positive", case.batch, TEXT_TOKENS, CONTEXT_DIM),
        negative=tensor("negative", case.batch, TEXT_TOKENS, CONTEXT_DIM),
        positive_pooled=tensor("positive pooled", case.batch, POOLED_DIM),
        negative_pooled=tensor("negative pooled", case.batch, POOLED_DIM),
        positive_size=(1024, 768),
        negative_size=negative_size,
        target_size=(960, 896),
    )
