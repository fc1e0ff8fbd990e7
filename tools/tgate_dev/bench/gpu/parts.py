"""The parts of `bench gpu`: published architectures with random weights, with every attention kernel, compiled too.

And one of them with weights that are kept otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import comfy.ldm.modules.attention as host_attention
import torch
from comfy.model_patcher import ModelPatcher

from .. import models
from ..models import FullSizeModel, unet
from ..timing import networks
from ..timing.compiling import compiled_whole
from ..timing.weights import USUAL, Weights

# As the host registers them; it has no other where their packages are missing.
KERNELS = {"sdpa": "pytorch", "flash": "flash", "sage": "sage"}
STEPS, REHEARSED_STEPS = 25, 3
# Of each the host prepares what it uses, on each use.
OTHER_WEIGHTS = {
    "fp8-weights": Weights(dtype=torch.float8_e4m3fn),
    "int8-weights": Weights(is_quantised=True),
    "lowvram": Weights(share=0.3),
}
_BLOCKS, _HEADS, _CHANNELS, _TEXT = 2, 2, 64, 32
_TINY_COSMOS = {
    "model_channels": _CHANNELS,
    "num_blocks": _BLOCKS,
    "num_heads": _HEADS,
    "crossattn_emb_channels": _TEXT,
}
_TINY_LUMINA = {"n_layers": _BLOCKS, "dim": 96, "n_heads": _HEADS, "n_kv_heads": 1, "cap_feat_dim": _TEXT}

# Parts of what the host's attention functions say where they take another kernel than their own.
FALLBACKS = ("using pytorch attention", "to pytorch attention", "using default SDPA")


class FellBack(logging.Handler):
    """Hears the host say that it does without the kernel that it was told to take."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what the host says of it, as its `attention.py` does."""
        text = record.getMessage()
        self.said = self.said or (text if any(said in text for said in FALLBACKS) else "")


@contextmanager
def own_kernel() -> Iterator[None]:
    """Around a run that is to use the kernel that it was told to.

    Raises:
        RuntimeError: the host took another one; the text is what it said.
    """
    heard = FellBack()
    logging.getLogger().addHandler(heard)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(heard)
    if heard.said:
        raise RuntimeError(f"not the kernel of this part: {heard.said}")


@dataclass(frozen=True)
class Part:
    """One table: a model in one precision and batch size, with one attention kernel, compiled or not.

    Its targets for the time of a whole run hold for weights that are on the card as they are computed with.

    Attributes:
        name: as chosen on the command line.
        model: what is timed.
        tiny: what a rehearsal runs in its place, of the same classes.
        output: size of what it makes.
    """

    name: str
    model: FullSizeModel
    tiny: FullSizeModel
    output: str
    dtype: torch.dtype
    batch: int = 1
    weights: Weights = USUAL
    steps: int = STEPS
    kernel: str = "sdpa"
    is_compiled: bool = False

    @property
    def has_kernel(self) -> bool:
        """Whether the attention kernel is installed."""
        return host_attention.get_attention_function(KERNELS[self.kernel], None) is not None

    def setting(self, patcher: ModelPatcher, is_rehearsed: bool = False) -> ModelPatcher:
        """A clone of a model with this part's attention kernel, compiled if it says so, as a user sets it."""
        patcher = patcher.clone()
        kernel = host_attention.get_attention_function(KERNELS[self.kernel])
        options = patcher.model_options["transformer_options"]
        options["optimized_attention_override"] = lambda _own, *args, **kwargs: kernel(*args, **kwargs)
        # For a rehearsal torch follows the code and leaves out the compiler.
        backend = "eager" if is_rehearsed else "inductor"
        return compiled_whole(patcher, backend) if self.is_compiled else patcher


def _small(model: FullSizeModel, latent: tuple[int, ...], **network: Any) -> FullSizeModel:
    return replace(model, latent_shape=(1, *latent), text=(8, _TEXT), network={**model.network, **network})


def _parts() -> Iterator[Part]:
    half, brain = torch.float16, torch.bfloat16
    levels = unet(((1, 0), (2, 1)), middle=1, blocks=1, model_channels=_CHANNELS, context_dim=_TEXT)
    sdxl = partial(Part, model=models.SDXL, tiny=_small(models.SDXL, (4, 8, 8), **levels), output="1024 × 1024")
    for dtype, name in ((half, "fp16"), (brain, "bf16")):
        for batch in (1, 4):
            yield sdxl(f"sdxl-{name}-batch{batch}", dtype=dtype, batch=batch)
    for name, weights in OTHER_WEIGHTS.items():
        yield sdxl(f"sdxl-{name}", dtype=half, weights=weights)
    yield Part("sd15-fp16", models.SD15, networks.TINY, "512 × 512", half)
    pixart = {"hidden_size": _CHANNELS, "depth": _BLOCKS, "num_heads": _HEADS, "caption_channels": _TEXT}
    small = _small(models.PIXART_SIGMA, (4, 40, 40), **pixart, model_max_length=8)
    yield Part("pixart-sigma-fp16", models.PIXART_SIGMA, small, "1024 × 1024", half)
    joint = {"axes_dims": [16, 16, 16], "multiple_of": 32}
    for name, model, small in (
        (
            "cosmos-predict2",
            models.COSMOS_PREDICT2_2B,
            _small(models.COSMOS_PREDICT2_2B, (16, 1, 8, 8), **_TINY_COSMOS),
        ),
        ("anima", models.ANIMA, _small(models.ANIMA, (16, 1, 8, 8), **_TINY_COSMOS)),
        ("lumina2", models.LUMINA_2, _small(models.LUMINA_2, (16, 8, 8), **_TINY_LUMINA, **joint)),
    ):
        yield Part(f"{name}-bf16", model, small, "1024 × 1024", brain, steps=30)
    wan = {"dim": _CHANNELS, "ffn_dim": _CHANNELS, "num_heads": _HEADS, "num_layers": _BLOCKS, "text_dim": _TEXT}
    clip = replace(models.WAN_T2V_1_3B, latent_shape=(1, 16, 9, 60, 104))
    small = _small(clip, (16, 2, 8, 8), **wan)
    yield Part("wan-1.3b-bf16", clip, small, "832 × 480, 33 frames", brain, steps=30)


PARTS = {
    part.name: part
    for base in _parts()
    for kernel in KERNELS
    # How weights are kept is not for the kernel. PixArt's blocks take the host's own, whatever a model is set to.
    if kernel == "sdpa" or (base.weights == USUAL and base.model is not models.PIXART_SIGMA)
    for is_compiled, ending in ((False, ""), (True, "-compiled"))
    for part in [replace(base, name=f"{base.name}-{kernel}{ending}", kernel=kernel, is_compiled=is_compiled)]
}
