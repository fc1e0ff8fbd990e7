"""How weights are kept: as they are computed with, in fewer bits, or only a part of them on the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.ops
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

LARGEST_INT8 = 127


@dataclass(frozen=True)
class Weights:
    """How the weights of a network are kept.

    Attributes:
        dtype: None for what is computed with.
        is_quantised: whether those of linear layers are int8 and made whole on each use, as GGUF loaders do it.
        share: how much of them may be on the device; the rest is brought there for each use, as with --lowvram.
    """

    dtype: torch.dtype | None = None
    is_quantised: bool = False
    share: float = 1.0


USUAL = Weights()


class Int8Operations(comfy.ops.manual_cast):  # type: ignore[misc]  # the host has no types
    """The host's layers, of which linear ones can be quantised."""

    class Linear(comfy.ops.manual_cast.Linear):  # type: ignore[misc]
        """int8 weights, one scale a row; made whole on every use."""

        weight: nn.Parameter
        scale: nn.Parameter

        def quantise(self) -> None:
            """Replace the weight by its quantised form."""
            weight = self.weight.detach()
            scale = weight.abs().amax(dim=1, keepdim=True) / LARGEST_INT8
            self.scale = nn.Parameter(scale, requires_grad=False)
            self.weight = nn.Parameter((weight / scale).round().to(torch.int8), requires_grad=False)

        def whole_weight(self, device: torch.device | None = None) -> Tensor:
            """The weight as it is used, in the type of its scale, (out_features, in_features)."""
            scale = self.scale.to(device)
            return self.weight.to(device=device, dtype=scale.dtype) * scale

        def forward_comfy_cast_weights(self, input: Tensor) -> Tensor:
            """The host's entry to layers that prepare their weights on use."""
            bias = None if self.bias is None else self.bias.to(input)
            return nn.functional.linear(input, self.whole_weight(input.device).to(input.dtype), bias)


def quantise(network: nn.Module) -> None:
    """Quantise the linear layers of a network made with `Int8Operations`."""
    for layer in network.modules():
        if isinstance(layer, Int8Operations.Linear):
            layer.quantise()


class LoadedInPart(ModelPatcher):  # type: ignore[misc]
    """A patcher that is never given more than `budget` bytes on its device, and leaves the rest to be cast on use."""

    budget = 0

    @classmethod
    def of(cls, whole: ModelPatcher, share: float) -> ModelPatcher:
        """A patcher of the same model, of whose weights only a share may be on its device."""
        # Clones take their class from the patcher.
        limited = type(cls.__name__, (cls,), {"budget": int(share * whole.model_size())})
        made: ModelPatcher = limited(whole.model, whole.load_device, whole.offload_device)
        return made

    def partially_load(self, device_to: torch.device, extra_memory: float = 0, *args: Any, **kwargs: Any) -> int:
        """As the host's, within the budget."""
        room = self.budget - self.model.model_loaded_weight_memory
        loaded: int = super().partially_load(device_to, min(extra_memory, room), *args, **kwargs)
        return loaded
