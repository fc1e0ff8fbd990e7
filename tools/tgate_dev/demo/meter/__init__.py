"""A custom node for the demo alone: sends the editor what a sampling run took. Not part of the pack."""

from __future__ import annotations

import importlib
import time
from collections import Counter
from typing import Any

from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from server import PromptServer

EVENT = "tgate_dev.measured"
# Among a model's attachments: the records of its runs.
RECORDS = "tgate_records"


class Meter:
    """Passes a model on; each of its sampling runs sends `EVENT` with `seconds`, `model_calls`, `branches` evaluated in
    them, and with T-GATE on it `attentions_reused`, `peak_cache_bytes`, and the `macs` and `plain_macs` of layers.
    """

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "execute"
    CATEGORY = "tgate_dev"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - the host's name
        """The inputs, in the host's form."""
        return {"required": {"model": ("MODEL",)}}

    @classmethod
    def IS_CHANGED(cls, **_: Any) -> float:  # noqa: N802 - the host's name
        """Equal to nothing: what comes after the node runs each time."""
        return float("nan")

    def execute(self, model: Any) -> tuple[Any]:
        """A clone of the model with the meter on it."""
        model = model.clone()
        # In the options it is outside of T-GATE's own wrapper, whose record is then complete.
        add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, EVENT, measured, model.model_options, is_model_options=True)
        return (model,)


def measured(executor: Any, *args: Any, **kwargs: Any) -> Any:
    """Around a sampling run: what it took."""
    patcher, counts = executor.class_obj.model_patcher, Counter[str]()

    def count_call(_: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        counts["model_calls"] += 1
        counts["branches"] += len(kwargs["transformer_options"]["cond_or_uncond"])

    start = time.perf_counter()
    with patcher.model.diffusion_model.register_forward_hook(count_call, with_kwargs=True):
        result = executor(*args, **kwargs)
    result.cpu()  # waits for the graphics card
    seconds = time.perf_counter() - start
    told = {"seconds": seconds, **counts}
    if records := patcher.get_attachment(RECORDS):
        record = records.last
        pack = type(record).__module__.partition(".tgate_core.")[0]
        cost = importlib.import_module(f"{pack}.tgate_core.host.costs").count_run(patcher, record)
        told |= {name: getattr(record.counts, name) for name in ("attentions_reused", "peak_cache_bytes")}
        told |= {"macs": cost.made, "plain_macs": cost.plain}
    PromptServer.instance.send_sync(EVENT, told)
    return result


NODE_CLASS_MAPPINGS = {"TGATEDevMeter": Meter}
