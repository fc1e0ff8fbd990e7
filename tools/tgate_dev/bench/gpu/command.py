"""`bench gpu`: every part in turn, each row kept as it is measured, then tables, a chart and the targets."""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import comfy.model_management
import torch

from ...cache import source_key
from ...errors import UserError
from ...progress import say
from ..pack import CROSS_ATTENTION, PACK, Nodes, attention_sites, pack_core, presets
from ..timing.compiling import prepare_compiler
from ..timing.networks import build_random
from ..timing.results import Row
from ..timing.rounds import Measurement, machine, random_task
from ..timing.rows import DEEP_CACHE, GATED, ONE_BRANCH, Gate, make_rows, node_patch, usual_gate
from .parts import PARTS, REHEARSED_STEPS, Part, own_kernel
from .records import WHOLE_PART, Records
from .report import write

SECONDS_IN_MINUTE = 60


def measure(options: argparse.Namespace, nodes: Nodes) -> int:
    """Measure the parts that `options` names, write all that is known to `options.out`, and print it.

    Returns:
        0; 1 if a row failed, or if a card missed a target.

    Raises:
        UserError: there is no part of a name, or nothing here to measure it with.
    """
    chosen = _chosen(options.parts)
    options.out.mkdir(parents=True, exist_ok=True)
    records = Records(options.out / "gpu-records.jsonl")
    with torch.inference_mode():
        for part in chosen:
            try:
                _measure_part(part, options, nodes, records)
            except Exception as error:  # such as a network that cannot be built here: the other parts go on
                records.keep_failure(_settings(part, options), WHOLE_PART, error)
                say(f"{part.name} failed: {error}")
            tables = [table for table in records.all() if table.settings["rehearsed"] == options.rehearse]
            # After each part, so that what is interrupted leaves its results.
            targets = write(options.out, tables)
    print((options.out / "gpu.md").read_text(encoding="utf-8"), f"This and all numbers are in {options.out}.", sep="\n")
    is_missed = not (options.rehearse or all(target.is_met for target in targets))
    return int(is_missed or any(table.failed for table in tables))


def _chosen(patterns: Sequence[str]) -> list[Part]:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in PARTS):
            raise UserError(f"There is no part {pattern}: choose of {', '.join(PARTS)}, or * for any text.")
    chosen = [part for name, part in PARTS.items() if any(fnmatchcase(name, pattern) for pattern in patterns)]
    if missing := sorted({part.kernel for part in chosen if not part.has_kernel}):
        say(f"Left out, as they are not installed here: parts with {' or '.join(missing)} attention")
    if not (possible := [part for part in chosen if part.has_kernel]):
        raise UserError("Nothing is left to measure: choose other parts.")
    return possible


def _measure_part(part: Part, options: argparse.Namespace, nodes: Nodes, records: Records) -> None:
    end, longest = time.monotonic() + SECONDS_IN_MINUTE * options.minutes, 0.0
    _forget_networks()
    device, steps = torch.device(options.device), REHEARSED_STEPS if options.rehearse else part.steps
    model = part.tiny if options.rehearse else part.model
    # Processors are slow at half precision.
    dtype = torch.float32 if options.rehearse else part.dtype
    patcher = build_random(model, device, dtype, part.weights)
    gate = usual_gate(patcher, steps, nodes)
    settings = _settings(part, options)
    known = records.table(settings).rows
    runs_left = {name: options.runs - len(row.rounds) for name, row in known.items()}
    rows = [row for row in card_rows(nodes, gate, patcher) if runs_left.get(row.name, options.runs) > 0]
    if part.weights.share < 1:
        # Without attentions, of what is left a larger part would be on the card.
        for row in rows:
            row.oracle = row.oracle and ONE_BRANCH
    setting = partial(part.setting, is_rehearsed=options.rehearse)
    task = random_task(model, device, part.batch)
    measurement = Measurement(patcher, task, steps, rows, nodes, setting, part.is_compiled)
    for row in rows:
        try:
            for number in range(runs_left.get(row.name, options.runs) + 1):
                start = time.monotonic()
                # What was warmed up is measured once at least, or the next start would be no further.
                if number != 1 and start + longest > end:
                    say(f"{part.name}: {options.minutes} minutes are over; the same command goes on from here.")
                    return
                if number == 0:
                    with own_kernel():
                        measurement.warm_up_row(row)
                else:
                    measurement.run_row(row, part.name)
                    records.keep(settings, row)
                longest = max(longest, time.monotonic() - start)
        except Exception as error:  # one row's, such as memory that does not suffice: the others go on
            records.keep_failure(settings, row.name, error)
            say(f"{part.name}: {row.name} failed: {error}")


def _settings(part: Part, options: argparse.Namespace) -> dict[str, Any]:
    """What the runs of a part are made with: others have a table of their own."""
    steps = REHEARSED_STEPS if options.rehearse else part.steps
    on = machine(torch.device(options.device))
    size = "tiny" if options.rehearse else part.output
    told = (part.name, size, f"batch {part.batch}", f"{steps} steps", on["device_name"])
    source = source_key([PACK / "nodes", PACK / "tgate_core"])
    title = ", ".join(map(str, told))
    return {"part": part.name, "steps": steps, "rehearsed": options.rehearse, "title": title, "source": source, **on}


def _forget_networks() -> None:
    """Those of the part before, and what was compiled of them."""
    comfy.model_management.unload_all_models()
    prepare_compiler()
    gc.collect()
    comfy.model_management.soft_empty_cache()


def card_rows(nodes: Nodes, gate: Gate, patcher: Any) -> Iterator[Row]:
    """The rows of `bench time` for whole methods, as far as they go with this network, and further combinations."""
    network = patcher.model.diffusion_model
    architectures = pack_core(nodes)("host.architectures")
    is_unet = architectures.architecture_of(network) is architectures.UNET
    is_gated = any(site.rule.kind == CROSS_ATTENTION for site in attention_sites(network, nodes))
    for row in make_rows(nodes, gate, patcher):
        if row.name.startswith("Advanced") or ("DeepCache" in row.name and not is_unet):
            continue
        if row.oracle == GATED and not is_gated:
            row.oracle = ONE_BRANCH
        yield row
    usual, apply = presets(nodes)[0], partial(node_patch, nodes["TGATEApply"])
    if is_unet:
        deep = node_patch(nodes["TGATEDeepCache"], **DEEP_CACHE)
        yield Row("TGATE DeepCache + Apply, fast", lambda model: apply(preset="fast")(deep(model)))
    if "TGATEForecast" in nodes:
        forecast = node_patch(nodes["TGATEForecast"])
        yield Row(f"TGATE Forecast + Apply, {usual}", lambda model: apply(preset=usual)(forecast(model)))
