"""A custom node for the demo alone: sends the editor what a sampling run took. Not part of the pack."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from server import PromptServer
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

EVENT = "tgate_dev.measured"
# Among a model's attachments: the records of its runs.
RECORDS = "tgate_records"
# Of T-GATE's own counts.
TOTALS = ("attentions_computed", "attentions_reused", "cond_only_passes", "peak_cache_bytes")
# The matrix products of attention itself, which the published tables leave out.
ATTENTION_PRODUCTS = ("bmm", "scaled_dot_product")


class Meter:
    """Passes a model on; each of its sampling runs sends `EVENT` with `seconds`, or, where it is counted, with
    `model_calls`, `branches` evaluated in them, `attention_made`, `layer_macs`, `attention_macs`, and the `TOTALS`
    of T-GATE's own counts under `tgate`.
    """

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "execute"
    CATEGORY = "tgate_dev"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - the host's name
        """The inputs, in the host's form."""
        return {"required": {"model": ("MODEL",), "is_counted": ("BOOLEAN", {})}}

    @classmethod
    def IS_CHANGED(cls, **_: Any) -> float:  # noqa: N802 - the host's name
        """Equal to nothing: what comes after the node runs each time."""
        return float("nan")

    def execute(self, model: Any, is_counted: bool) -> tuple[Any]:
        """A clone of the model with the meter on it."""
        model = model.clone()
        measure = counted if is_counted else timed
        # In the options it is outside of T-GATE's own wrapper, whose record is then complete.
        add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, EVENT, measure, model.model_options, is_model_options=True)
        return (model,)


def timed(executor: Any, *args: Any, **kwargs: Any) -> Any:
    """Around a sampling run: its seconds."""
    start = time.perf_counter()
    result = executor(*args, **kwargs)
    result.cpu()  # waits for the graphics card
    PromptServer.instance.send_sync(EVENT, {"seconds": time.perf_counter() - start})
    return result


def counted(executor: Any, *args: Any, **kwargs: Any) -> Any:
    """Around a sampling run: what it did."""
    patcher, counts = executor.class_obj.model_patcher, Counter[str]()
    with hooked(patcher.model.diffusion_model, counts), FlopCounterMode(display=False) as flops:
        result = executor(*args, **kwargs)
    for operation, count in flops.get_flop_counts()["Global"].items():
        is_attention = any(name in str(operation) for name in ATTENTION_PRODUCTS)
        counts["attention_macs" if is_attention else "layer_macs"] += count // 2
    records = patcher.get_attachment(RECORDS)
    ours = records.last.counts if records else None
    totals = {name: getattr(ours, name) for name in TOTALS} if ours else {}
    PromptServer.instance.send_sync(EVENT, {**counts, "tgate": totals})
    return result


@contextmanager
def hooked(network: nn.Module, counts: Counter[str]) -> Iterator[None]:
    """Counts the calls of a network and of its attentions."""

    def count_call(_: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        counts["model_calls"] += 1
        counts["branches"] += len(kwargs["transformer_options"]["cond_or_uncond"])

    def count_attention(*_: Any) -> None:
        counts["attention_made"] += 1

    # An attention's first projection runs whenever the attention does, whatever was done to the rest of it.
    queries = [module for name, module in network.named_modules() if name.endswith(("attn1.to_q", "attn2.to_q"))]
    hooks = [module.register_forward_hook(count_attention) for module in queries]
    hooks.append(network.register_forward_hook(count_call, with_kwargs=True))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


NODE_CLASS_MAPPINGS = {"TGATEDevMeter": Meter}
