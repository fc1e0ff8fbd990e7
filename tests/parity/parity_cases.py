"""What both sides of the parity check share: the cases, and how weights and inputs are drawn.

Needs numpy only, so that the published package's environment and the ComfyUI one can both import it. Nothing
random is stored: every tensor is drawn from a seed made of its own name. The small models themselves are in
`parity_unet.py`, `parity_pixart.py` and `parity_svd.py`.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

TOLERANCE = 5e-4  # largest difference allowed, in units of the published latents' standard deviation

STEPS = 12
CONTEXT_DIM = 32
POOLED_DIM = 32
TEXT_TOKENS = 10
LATENT_CHANNELS = 4
PIXELS_PER_LATENT = 8

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
    def inputs(self) -> tuple[int, int, int, float]:
        """What a run depends on besides the schedule."""
        return self.height, self.width, self.batch, self.cfg


@dataclass(frozen=True)
class Inputs:
    """What a text-to-image model is given.

    Noise (batch, 4, height, width); text (batch, tokens, context); pooled (batch, pooled); sizes in pixels.
    """

    noise: NDArray[np.float32]
    positive: NDArray[np.float32]
    negative: NDArray[np.float32]
    positive_pooled: NDArray[np.float32]
    negative_pooled: NDArray[np.float32]
    positive_size: tuple[int, int]
    negative_size: tuple[int, int]
    target_size: tuple[int, int]


MODELS = ("sd15", "sdxl", "pixart_alpha", "pixart_sigma", "svd")

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


_LEFT_OUT = {
    # This loader gates with guidance only: it has no `lcm` switch.
    "sd15": {"plain_no_guidance", "no_guidance"},
    # The same, and the batch of the host's model is the frames of one video.
    "svd": {"plain_no_guidance", "no_guidance", "plain_batch_2", "batch_2"},
    # Their latents are large; one interval of the planning phase does.
    "pixart_alpha": {"self_attention_interval_5"},
    "pixart_sigma": {"self_attention_interval_5"},
}


def cases(model: str) -> tuple[Case, ...]:
    """Every case of a model, the plain ones first."""
    chosen = [case for case in PLAIN_CASES + GATED_CASES if case.name not in _LEFT_OUT.get(model, ())]
    return tuple(_fit_pixart(case) if model.startswith("pixart") else case for case in chosen)


def plain_case(model: str, case: Case) -> Case:
    """The same run without T-GATE, which is itself one of the model's cases."""
    return next(c for c in cases(model) if c.schedule is None and c.inputs == case.inputs)


def _fit_pixart(case: Case) -> Case:
    """The case at a size that ComfyUI's PixArt can embed: its sides average more than 32 latent pixels.

    The flat size is the smaller one, and serves where the shape is not the point too.
    """
    is_square = case.height == case.width and case.batch == 1 and case.cfg > 1.0
    height, width = (34, 34) if is_square else (16, 50)
    return replace(case, height=height, width=width)


def draw(name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Standard normal numbers that depend on the name alone. `RandomState`'s stream is frozen across numpy versions."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")
    return np.random.RandomState(seed).standard_normal(shape)


def weight(model: str, parameter: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The stand-in weight of one parameter, named as diffusers names it."""
    values = draw(f"{model}/{parameter}", shape)
    module, _, kind = parameter.rpartition(".")
    if len(shape) == 1:
        values = 0.1 * values + (1.0 if "norm" in module.rsplit(".", 1)[-1] and kind == "weight" else 0.0)
    else:
        gain = next((gain for suffix, gain in _GAINS.items() if module.endswith(suffix)), 1.0)
        values *= gain / math.sqrt(math.prod(shape[1:]))
    return values.astype(np.float32)


def draw_input(model: str, name: str, *shape: int) -> NDArray[np.float32]:
    """One input of a model, drawn from its name."""
    return draw(f"{model}/{name}", shape).astype(np.float32)


def make_inputs(model: str, case: Case) -> Inputs:
    """The inputs of a text-to-image case: runs of one size share their noise, so a schedule and its plain run can be
    compared."""
    # The package mixes the two branches' sizes up when both the batch and the sizes differ; there they are equal.
    negative_size = (512, 640) if case.batch == 1 else (1024, 768)
    return Inputs(
        noise=draw_input(model, "noise", case.batch, LATENT_CHANNELS, case.height, case.width),
        positive=draw_input(model, "positive", case.batch, TEXT_TOKENS, CONTEXT_DIM),
        negative=draw_input(model, "negative", case.batch, TEXT_TOKENS, CONTEXT_DIM),
        positive_pooled=draw_input(model, "positive pooled", case.batch, POOLED_DIM),
        negative_pooled=draw_input(model, "negative pooled", case.batch, POOLED_DIM),
        positive_size=(1024, 768),
        negative_size=negative_size,
        target_size=(960, 896),
    )
