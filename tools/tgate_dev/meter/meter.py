"""Counting what a sampling run does: network calls, attentions, multiply-accumulate operations, T-GATE's own."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfy.patcher_extension import WrappersMP, add_wrapper_with_key
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.patcher_extension import WrapperExecutor

KEY = "tgate_dev_meter"
# Where T-GATE keeps a run's state in transformer_options while it lasts.
RUN_KEY = "tgate_run"
# The matrix products inside attention; the published tables leave them out.
PRODUCTS_OF_ATTENTION = ("bmm", "scaled_dot_product")


@dataclass
class Measurement:
    """What one sampling run did.

    Attributes:
        model_calls: calls of the network.
        branches: guidance branches evaluated in them, all together.
        attention_made: attention modules that ran, one per module and network call.
        layer_macs: multiply-accumulate operations of linear and convolution layers.
        attention_macs: those of the matrix products inside attention.
        tgate: T-GATE's own statistics of the run; empty without T-GATE.
    """

    model_calls: int = 0
    branches: int = 0
    attention_made: int = 0
    layer_macs: int = 0
    attention_macs: int = 0
    tgate: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Recorder:
    """Collects a measurement while the run lasts. A plain object, which the host's copies of its options share."""

    def __init__(self) -> None:
        self.measurement = Measurement()
        self.statistics: Any = None


def totals(statistics: Any) -> dict[str, Any]:
    """Of T-GATE's statistics the numbers and notes of the whole run; they also hold tables of its steps and calls."""
    return {name: value for name, value in vars(statistics).items() if isinstance(value, (int, list))}


def attach(model: ModelPatcher, result_file: str) -> ModelPatcher:
    """A clone of `model`, each sampling run of which writes its measurement to `result_file` as JSON."""

    def measure_run(executor: WrapperExecutor, *args: Any, **kwargs: Any) -> Any:
        guider = executor.class_obj
        recorder = Recorder()
        guider.model_options["transformer_options"][KEY] = recorder
        with _counting(recorder.measurement, guider.model_patcher.model.diffusion_model):
            result = executor(*args, **kwargs)
        if recorder.statistics is not None:
            recorder.measurement.tgate = totals(recorder.statistics)
        Path(result_file).write_text(json.dumps(dataclasses.asdict(recorder.measurement)), encoding="utf-8")
        return result

    measured: ModelPatcher = model.clone()
    # In the options, for on the patcher it would stand behind T-GATE's: this one has to be the outermost, because
    # T-GATE's numbers are complete only when its own wrapper is done.
    add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, measure_run, measured.model_options, is_model_options=True)
    measured.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, _count_call)
    return measured


def _count_call(executor: WrapperExecutor, *args: Any, **kwargs: Any) -> Any:
    """One network call. Positional: x, t, c_concat, c_crossattn, control, transformer_options."""
    options = args[5]
    recorder: Recorder = options[KEY]
    recorder.measurement.model_calls += 1
    recorder.measurement.branches += len(options["cond_or_uncond"])
    run = options.get(RUN_KEY)
    if run is not None:
        recorder.statistics = run.statistics
    return executor(*args, **kwargs)


@contextlib.contextmanager
def _counting(measurement: Measurement, network: nn.Module) -> Iterator[None]:
    def count_attention(*_: Any) -> None:
        measurement.attention_made += 1

    # Its first projection runs exactly when an attention does, whoever replaced the rest of it.
    hooks = [projection.register_forward_hook(count_attention) for projection in _query_projections(network)]
    counter = FlopCounterMode(display=False)
    try:
        with counter:
            yield
    finally:
        for hook in hooks:
            hook.remove()
    for operation, flops in counter.get_flop_counts().get("Global", {}).items():
        if any(name in str(operation) for name in PRODUCTS_OF_ATTENTION):
            measurement.attention_macs += flops // 2
        else:
            measurement.layer_macs += flops // 2


def _query_projections(network: nn.Module) -> Iterator[nn.Module]:
    return (module for name, module in network.named_modules() if name.endswith(("attn1.to_q", "attn2.to_q")))
