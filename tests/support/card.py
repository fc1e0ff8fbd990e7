"""A graphics card that is none: tensors that say they are on `cuda`, and compute on the CPU.

So code takes the ways that it takes on a card alone. What travels between the card and the CPU's memory is noted, and
every wait for the card. How long anything takes there it does not say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import comfy.model_management
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from operations import SYNCHRONISING
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
PLENTY = 2**40
# Operations that may be given tensors of both.
MIXING = ("copy_", "_to_copy", "index", "index_put_")


class OnCard(Tensor):
    """A tensor that says it is on the card; what it holds is on the CPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnCard:
        made: OnCard = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device="meta",  # torch itself would look for the driver
            requires_grad=False,
        )
        made.inner = inner
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The card."""
        return CUDA

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        """Always."""
        return True

    @property
    def is_meta(self) -> bool:  # type: ignore[override]
        """Never."""
        return False

    def tolist(self) -> Any:
        """What torch does for its own tensors alone."""
        return self.to(CPU).tolist()

    def __repr__(self) -> str:
        return f"OnCard({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Only outside of `Card`."""
        raise RuntimeError(f"{func} on a card that is not there")


@dataclass
class Traffic:
    """What a part of a run did besides computing on the card.

    Attributes:
        down: bytes of each copy from the card to the CPU's memory.
        up: bytes of each copy to the card.
        pinned: bytes of each piece of pinned memory that was asked for.
        waits: how often the processor waited for the card, by what it did.
    """

    down: list[int] = field(default_factory=list)
    up: list[int] = field(default_factory=list)
    pinned: list[int] = field(default_factory=list)
    waits: Counter[str] = field(default_factory=Counter)


class Arrival:
    """An event in the card's stream, which is over at once; who asks whether it is waits for it."""

    def __init__(self, there: Card) -> None:
        self._there = there

    def record(self, _stream: Any) -> None:
        """As torch's."""

    def synchronize(self) -> None:
        """As torch's."""
        self._there.traffic.waits["event"] += 1


class Card(TorchDispatchMode):
    """While it is there: operations on tensors of the card, and between it and the CPU.

    Attributes:
        traffic: what there was since it was taken last.
        free_bytes: what the host is told of its memory.
    """

    def __init__(self) -> None:
        super().__init__()
        self.traffic = Traffic()
        self.free_bytes = PLENTY

    def event(self) -> Arrival:
        """What `torch.cuda.Event` makes."""
        return Arrival(self)

    def taken(self) -> Traffic:
        """What there was since it was asked the last time."""
        traffic, self.traffic = self.traffic, Traffic()
        return traffic

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The operation, on the CPU.

        Raises:
            RuntimeError: as of torch, where tensors of both are given and are not to be.
        """
        kwargs, name = dict(kwargs or {}), func.overloadpacket.__name__
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        given = [one for one in tensors if isinstance(one, OnCard)]
        is_there = bool(given)
        if kwargs.get("device") is not None:
            # Torch's own code has taken the device from a tensor of the card, and found another.
            is_there = torch.device(kwargs["device"]).type in (CUDA.type, "meta")
            kwargs["device"] = CPU
        elif is_there and name not in MIXING and any(one.ndim and not isinstance(one, OnCard) for one in tensors):
            raise RuntimeError(f"{name}: expected all tensors to be on the same device")
        self._note(name, args, kwargs, given, is_there)
        inner_args, inner_kwargs = tree_map_only(OnCard, lambda one: one.inner, (args, kwargs))
        result = func(*inner_args, **inner_kwargs)
        # What is written to in place is what the operation returns.
        for one in tensors:
            if result is (one.inner if isinstance(one, OnCard) else one):
                return one
        return tree_map_only(Tensor, OnCard, result) if is_there else result

    def _note(self, name: str, args: Any, kwargs: Any, given: list[OnCard], is_there: bool) -> None:
        if given and name.startswith(SYNCHRONISING):
            self.traffic.waits[name] += 1
        if kwargs.pop("pin_memory", None):
            self.traffic.pinned.append(torch.Size(args[0]).numel() * kwargs.get("dtype", torch.float32).itemsize)
        if name == "_to_copy":
            self._note_copy(args[0], is_there, kwargs.get("non_blocking", False))
        elif name == "copy_":
            self._note_copy(
                args[1], isinstance(args[0], OnCard), True in args[2:3] or kwargs.get("non_blocking", False)
            )

    def _note_copy(self, source: Tensor, is_to_card: bool, is_free: bool) -> None:
        nbytes, is_from_card = source.numel() * source.element_size(), isinstance(source, OnCard)
        if is_from_card and not is_to_card:
            self.traffic.down.append(nbytes)
            self.traffic.waits["copy"] += not is_free
        elif is_to_card and not is_from_card:
            self.traffic.up.append(nbytes)


class Sampled(NamedTuple):
    """What a run has made, on the CPU, and what each of its steps did; the first one also loads the model."""

    result: Tensor
    steps: list[Traffic]


@contextmanager
def card() -> Iterator[Card]:
    """A card for models that are loaded on it."""
    there = Card()

    def free(_device: Any = None, torch_free_too: bool = False) -> Any:
        return (there.free_bytes, there.free_bytes) if torch_free_too else there.free_bytes

    # What asks the driver.
    driver = {
        "_lazy_init": lambda: None,
        "synchronize": lambda *_: None,
        "current_device": lambda: CUDA.index,
        "set_device": lambda _device: None,
        "current_stream": lambda _device: None,
        "Event": there.event,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, stands_in in driver.items():
            patch.setattr(torch.cuda, name, stands_in)
        patch.setattr(comfy.model_management, "get_free_memory", free)
        patch.setattr(comfy.model_management, "get_total_memory", free)
        with there:
            try:
                yield there
            finally:
                comfy.model_management.unload_all_models()


def sampled(sample: Callable[..., Tensor], model: ModelPatcher, there: Card, **options: Any) -> Sampled:
    """Sample a model on the card."""
    model.load_device = CUDA
    steps: list[Traffic] = []
    after_step = options.pop("after_step", lambda _step: None)

    def end_step(step: int, *_: Any) -> None:
        steps.append(there.taken())
        after_step(step)

    there.taken()
    result = sample(model, callback=end_step, **options)
    return Sampled(result.to(CPU), steps)
