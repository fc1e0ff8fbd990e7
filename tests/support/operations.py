"""Weights that are not simply there: quantised layers, patchers short of memory, and what a run does with both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.ops
import comfy.supported_models
import pytest
import tiny
import torch
import variants
from comfy.model_patcher import ModelPatcher
from record import watching_calls
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tgate_dev.bench.timing.weights import Int8Operations, LoadedInPart, quantise

REST = "rest"
SYNCHRONISING = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "unique", "masked_select", "argwhere")
READING = (torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.cpu, torch.Tensor.__bool__, torch.Tensor.item)


class QuantisedOperations(Int8Operations):
    """Operations of a loader that keeps weights quantised, as GGUF loaders do."""

    class Linear(Int8Operations.Linear):
        """Counts how often it is made whole."""

        dequantised = 0

        def forward_comfy_cast_weights(self, input: Tensor) -> Tensor:
            """The host's entry to layers that prepare their weights on use."""
            self.dequantised += 1
            return super().forward_comfy_cast_weights(input)


def attention_layers(model: nn.Module) -> dict[nn.Module, str]:
    """Layers with weights that an attention consists of, and which of the two of its block: attn1 or attn2."""
    found: dict[nn.Module, str] = {}
    for name, module in model.named_modules():
        slot = next((part for part in name.split(".") if part in ("attn1", "attn2")), None)
        if slot is not None and getattr(module, "weight", None) is not None:
            found[module] = slot
    return found


class WeightUse:
    """How often each network call used weights, by where they belong: attn1, attn2, or the rest of the network."""

    def __init__(self) -> None:
        self.forwards: list[Counter[str]] = []
        self.casts: list[Counter[str]] = []

    def of(self, name: str, kind: str) -> list[int]:
        """One number a call: `forwards` or `casts` of `kind`."""
        return [counts[kind] for counts in getattr(self, name)]


@contextmanager
def weight_use(run_on: ModelPatcher, model: ModelPatcher | None = None) -> Iterator[WeightUse]:
    """Record the use of weights of `model`, or of the model that `run_on` runs, in runs of `run_on`.

    Forwards are seen by hooks on the layers themselves; casts and moves, in the host's function for both.
    """
    use, network = WeightUse(), (model or run_on).model.diffusion_model
    slots = attention_layers(network)
    layers = {layer for layer in network.modules() if getattr(layer, "weight", None) is not None}
    cast_bias_weight = comfy.ops.cast_bias_weight

    def begin_call(_options: Any) -> None:
        use.forwards.append(Counter())
        use.casts.append(Counter())

    def count_forward(layer: nn.Module, _inputs: Any) -> None:
        if use.forwards:
            use.forwards[-1][slots.get(layer, REST)] += 1

    def count_cast(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if layer in layers and use.casts:
            use.casts[-1][slots.get(layer, REST)] += 1
        return cast_bias_weight(layer, *args, **kwargs)

    handles = [layer.register_forward_pre_hook(count_forward) for layer in layers]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comfy.ops, "cast_bias_weight", count_cast)
        with watching_calls(run_on, begin_call, handles):
            yield use


def dequantisations(model: ModelPatcher) -> Counter[str]:
    """How often the quantised layers of a model were made whole since it was built."""
    slots = attention_layers(model.model.diffusion_model)
    counts: Counter[str] = Counter()
    for layer in model.model.diffusion_model.modules():
        if isinstance(layer, QuantisedOperations.Linear):
            counts[slots.get(layer, REST)] += layer.dequantised
    return counts


def lora(model: ModelPatcher, strength: float = 0.5) -> ModelPatcher:
    """A clone with a random weight patch on every attention layer."""
    generator = torch.Generator().manual_seed(11)
    weights = model.model.state_dict()
    keys = [key for key in weights if ".attn" in key and key.endswith("weight")]
    patches = {key: ("diff", (torch.randn(weights[key].shape, generator=generator) * 0.1,)) for key in keys}
    patched = model.clone()
    assert set(patched.add_patches(patches, strength)) == set(keys)
    return patched


def low_memory(share: float = 0.0, seed: int = 0) -> ModelPatcher:
    """A model of one level, of whose weights only a share may be on its device."""
    return LoadedInPart.of(variants.one_level(seed=seed), share)


def stored_in(
    weights: torch.dtype, computed_in: torch.dtype, operations: Any = None, seed: int = 0, **changes: Any
) -> ModelPatcher:
    """A model of one level whose weights are kept in one type and used in another, through the host's choice of
    operations or those given."""
    config = comfy.supported_models.SD15({**tiny.SD15_UNET, **variants.ONE_LEVEL, "dtype": weights, **changes})
    config.set_inference_dtype(weights, computed_in)
    config.custom_operations = operations
    model = variants.build(config, seed)
    model.model.diffusion_model.to(weights)
    return model


def quantised(seed: int = 0) -> ModelPatcher:
    """A model of one level with quantised linear layers."""
    model = stored_in(torch.float32, torch.float32, QuantisedOperations, seed)
    quantise(model.model.diffusion_model)
    return model


def made_whole(model: ModelPatcher) -> ModelPatcher:
    """A model in fp32 with the weights that another one uses: what it has to be equal to."""
    whole = variants.one_level()
    layers = dict(model.model.diffusion_model.named_modules())
    for name, layer in whole.model.diffusion_model.named_modules():
        source = layers[name]
        for key, parameter in layer.named_parameters(recurse=False):
            is_quantised = key == "weight" and isinstance(source, QuantisedOperations.Linear)
            value = source.whole_weight() if is_quantised else getattr(source, key)
            parameter.data = value.detach().to(torch.float32)
    return whole


def left_on(patcher: ModelPatcher) -> list[str]:
    """Attention modules, by name, on which something is left."""
    attentions = [
        (name, module)
        for name, module in patcher.model.diffusion_model.named_modules()
        if name.rsplit(".", 1)[-1] in ("attn1", "attn2")
    ]
    assert attentions
    return [name for name, module in attentions if "forward" in module.__dict__]


class ReadCounter(TorchDispatchMode):
    """Counts operations that have to wait for a device: reading a value, or a size that depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The host's operation, counted where it waits."""
        name = func.overloadpacket.__name__
        if name.startswith(SYNCHRONISING):
            self.reads[name] += 1
        return func(*args, **(kwargs or {}))


class ConversionCounter(TorchFunctionMode):
    """Counts what hands a tensor to Python without an operation on the way, as `tolist` does."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: Counter[str] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The call, counted where it reads."""
        if func in READING:
            self.reads[func.__name__] += 1
        return func(*args, **(kwargs or {}))


def device_reads(model: ModelPatcher, sample: Callable[..., Tensor] = tiny.sample, **options: Any) -> Counter[str]:
    """All that a run of `model` waits for, by name."""
    with ConversionCounter() as conversions, ReadCounter() as operations:
        sample(model, **options)
    return conversions.reads + operations.reads


def second_device(model: ModelPatcher, make: Callable[[], ModelPatcher]) -> ModelPatcher:
    """The model's second network, on what the host takes for another device: each branch has a thread of its own.

    Args:
        model: gets the second network.
        make: makes the same model once more.
    """
    if not hasattr(model, "deepclone_multigpu"):
        pytest.skip("host has no multi-GPU clones")
    model.cached_patcher_init = (make, ())
    second = model.deepclone_multigpu(new_load_device=torch.device("cpu", 0))  # to the host, another than "cpu"
    second.is_multigpu_base_clone = True
    model.set_additional_models("multigpu", [second])
    return second
