"""The ways to save that are compared."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

from ..bench.pack import PACK, Nodes, pack_core, preset, presets
from ..bench.timing import rows
from ..bench.timing.rows import DEEP_CACHE, Gate, node_patch, peer_rows, usual_gate
from ..bench.timing.sampling import sigmas
from ..cache import source_key

PLAIN = "plain"
THRESHOLDS = (0.03, 0.05, 0.1, 0.2, 0.3)
# The paper's gates for SD 1.5 and SDXL, of so many steps.
PAPER_GATES, PAPER_STEPS = (5, 10), 25
NO_SELF_ATTENTION = {"self_attention": False, "sp_interval": 1, "warm_up": 0}
# With refreshed steps the gate can be early; of as many steps.
EARLY_GATE, FIRST_GAP = 3, 2
# With refreshed steps, attention can be reused in between.
ATTENTION_INTERVAL = 3
# With refreshed guidance more steps can be predicted, and later ones.
FORECAST_STRENGTH, FORECAST_END = 3, 0.95


@dataclass(frozen=True)
class Method:
    """One way to sample.

    Attributes:
        name: as tables call it, the same for all numbers of steps.
        patch: applies it to the plain model (the host's ModelPatcher).
        series: its line in the charts: methods that differ by a threshold alone are one.
        source: changes when the code of the method does; the host's is known by its version.
        is_foreign: whether it belongs to another pack, which may change the network for good.
    """

    name: str
    patch: Callable[[Any], Any]
    series: str
    source: str = ""
    is_foreign: bool = False


def make_methods(model: Any, steps: int, nodes: Nodes, peers: Sequence[Path]) -> list[Method]:
    """All methods for a model (the host's ModelPatcher) and a number of steps, the plain one first.

    Args:
        model: that they are to be applied to.
        steps: of a run.
        nodes: the pack's nodes by id.
        peers: folders of other packs.
    """
    gate = usual_gate(model, steps, nodes)
    settings = [Path(__file__), Path(inspect.getfile(rows))]
    own = source_key([PACK / "nodes", PACK / "tgate_core", *settings])
    methods = [Method(PLAIN, lambda model: model, PLAIN), *_host_methods(gate)]
    methods += [Method(name, patch, name, own) for name, patch in _own_patches(model, steps, nodes)]
    foreign = peer_rows(peers, gate)
    theirs = source_key([*peers, *settings])
    return methods + [Method(row.name, row.patch, row.name, theirs, is_foreign=True) for row in foreign]


def _host_methods(gate: Gate) -> Iterator[Method]:
    override = getattr(importlib.import_module("comfy_extras.nodes_custom_sampler"), "CFGOverride", None)
    if override is not None:  # older hosts do not have it
        name = "CFG Override, cfg 1 from the gate"
        yield Method(name, node_patch(override, cfg=1.0, start_percent=gate.percent), name, str(gate.percent))
    caches = importlib.import_module("comfy_extras.nodes_easycache")
    for node, series in ((caches.EasyCacheNode, "EasyCache"), (caches.LazyCacheNode, "LazyCache")):
        for threshold in THRESHOLDS:
            yield Method(f"{series} {threshold:g}", node_patch(node, reuse_threshold=threshold), series)


def _forecasts(nodes: Nodes, refreshed: dict[str, Any]) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    """Forecast alone, and beside refreshed guidance, whose settings are given."""
    yield "TGATE Forecast", node_patch(nodes["TGATEForecast"])
    apply = node_patch(nodes["TGATEApplyAdvanced"], **refreshed)
    forecast = node_patch(nodes["TGATEForecast"], strength=FORECAST_STRENGTH, end=FORECAST_END)
    yield "TGATE Forecast + Apply", lambda model: apply(forecast(model))


def _own_patches(model: Any, steps: int, nodes: Nodes) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    apply = {name: node_patch(nodes["TGATEApply"], preset=name) for name in presets(nodes)}
    can_freeze = pack_core(nodes)("host.networks").scope_of(model) == "all"
    for name, patch in apply.items():
        if can_freeze or name != pack_core(nodes)("presets").PUBLISHED:  # which refuses the others
            yield f"TGATE Apply, {name}", patch
    published = replace(preset(model, nodes), preset="as published").resolve(sigmas(model, steps), True).gate
    known = None if published.self_attention else published.gate
    for gate in PAPER_GATES:
        at = {"gate": gate / PAPER_STEPS, "gate_unit": "fraction of steps"}
        if round(steps * gate / PAPER_STEPS) != known:
            to_the_letter = {**NO_SELF_ATTENTION, "guidance": "uncond", "refresh": "never", **at}
            name = f"as published, gate {gate} of {PAPER_STEPS}"
            yield name, node_patch(nodes["TGATEApplyAdvanced"], **to_the_letter)
    early = {**NO_SELF_ATTENTION, "gate": EARLY_GATE / PAPER_STEPS, "gate_unit": "fraction of steps"}
    gap = max(1, round(FIRST_GAP * steps / PAPER_STEPS))
    for refresh in ("growing gaps", "by error"):
        name = f"Advanced, gate {EARLY_GATE} of {PAPER_STEPS}, refreshed: {refresh}"
        settings = {"guidance": "cached_delta", "refresh": refresh, "refresh_gap": gap}
        yield name, node_patch(nodes["TGATEApplyAdvanced"], **early, **settings)
    reusing = {**early, "self_attention": True, "fi_interval": ATTENTION_INTERVAL, "guidance": "cached_delta"}
    name = f"Advanced, gate {EARLY_GATE} of {PAPER_STEPS}, refreshed, attention every {ATTENTION_INTERVAL} steps"
    yield name, node_patch(nodes["TGATEApplyAdvanced"], **reusing, refresh="growing gaps", refresh_gap=gap)
    yield from _forecasts(nodes, {**early, "guidance": "cached_delta", "refresh": "growing gaps", "refresh_gap": gap})
    if (
        isinstance(model.model.diffusion_model, UNetModel)
        and pack_core(nodes)("host.unet_blocks").can_leave_out_layers()
    ):
        (usual, *_), deep_cache = apply, node_patch(nodes["TGATEDeepCache"], **DEEP_CACHE)
        yield "TGATE DeepCache", deep_cache
        yield f"TGATE DeepCache + Apply, {usual}", lambda model: apply[usual](deep_cache(model))
