"""Random graphs: how they are drawn, and what holds for every one of them.

Each graph has a run (sampler, scheduler, steps, cfg, size, batch, an early end), T-GATE's settings, conds with areas,
masks, strengths and timestep ranges, and other nodes before and behind ours.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.samplers
import hypothesis
import moving
import torch
from families import Family
from hypothesis import strategies as st

HUGE = 1e15
# Random weights amplify rounding over the steps; a wrong capture shows as 1e-2 and more.
ROUNDING = 2e-3
DEEP_CACHE, FORECAST = "DeepCache", "Forecast"
OURS = {DEEP_CACHE, FORECAST}
# With which steps are predicted.
PREDICTED_WITH = ["dpmpp_2m", "euler"]
MEASURED = "measured"
_SHARES = (0.0, 0.25, 0.5, 0.75)
GATES = {
    "step": (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0),
    "fraction of steps": _SHARES,
    "percent of schedule": _SHARES,
    MEASURED: (1.0, 10.0, 50.0, 100.0),
}
WHOLE_KINDS = ("whole", "whole", "start_percent", "end_percent")
PICTURE_KINDS = ("area", "mask")
Node = Callable[[Any], Any]


@dataclass(frozen=True)
class Cond:
    """One cond: seed and length of its text, and what part of picture and schedule it is for."""

    seed: int
    tokens: int
    kind: str
    place: tuple[int, int]
    cut: float
    strength: float

    def build(self, family: Family, height: int, width: int) -> list[Any]:
        """The conditioning for a latent of `height` x `width`."""
        options: dict[str, Any] = {"strength": self.strength}
        if self.kind == "area":
            row, column = self.place
            options["area"] = (height // 2, width // 2, row * (height // 2), column * (width // 2))
        if self.kind == "mask":
            options["mask"] = torch.ones(1, height, width)
            options["mask"][..., : width // 2] = 0.2
        if self.kind in ("start_percent", "end_percent"):
            options[self.kind] = self.cut
        return family.text(self.seed, self.tokens, **options)


@dataclass(frozen=True)
class Graph:
    """One drawn graph: the model, T-GATE's settings, nodes before and behind, conds, batch and size, and the run."""

    family: Family
    settings: dict[str, Any]
    before: list[str]
    behind: list[str]
    positive: list[Cond]
    negative: list[Cond]
    batch: int
    size: tuple[int, ...]
    run: dict[str, Any]

    def inputs(self) -> dict[str, Any]:
        """Arguments of `Family.sample`."""
        place = self.size[-2:] if len(self.size) > 1 else (1, *self.size)
        sampler = self.run["sampler"]
        return {
            **self.run,
            "sampler": moving.SAMPLERS.get(sampler, sampler),
            "latent": self.family.empty_latent(self.batch, self.size),
            "positive": [item for cond in self.positive for item in cond.build(self.family, *place)],
            "negative": [item for cond in self.negative for item in cond.build(self.family, *place)],
        }


@st.composite
def conds(draw: Any, seed: int, kinds: Sequence[str], tokens: Sequence[int]) -> list[Cond]:
    """One to three conds of a branch, of these kinds and text lengths."""
    return [
        Cond(
            seed=seed + index,
            tokens=draw(st.sampled_from(tokens)),
            kind=draw(st.sampled_from(kinds)),
            place=(draw(st.integers(0, 1)), draw(st.integers(0, 1))),
            cut=draw(st.sampled_from([0.2, 0.5, 0.8])),
            strength=draw(st.sampled_from([1.0, 0.6])),
        )
        for index in range(draw(st.integers(1, 3)))
    ]


@st.composite
def gate_settings(draw: Any) -> dict[str, Any]:
    """Settings of TGATE Apply (Advanced)."""
    unit = draw(st.sampled_from(sorted(GATES)))
    return {
        "gate": draw(st.sampled_from(GATES[unit])),
        "gate_unit": unit,
        "sp_interval": draw(st.integers(1, 4)),
        "fi_interval": draw(st.integers(1, 3)),
        "warm_up": draw(st.integers(0, 3)),
        "cross_attention": draw(st.sampled_from([True, True, True, False])),
        "self_attention": draw(st.booleans()),
        "guidance": draw(st.sampled_from(["uncond", "cond", "cond_mean", "cached_delta", "keep"])),
        "refresh": draw(st.sampled_from(["never", "never", "growing gaps", "by error"])),
        "refresh_gap": draw(st.integers(1, 3)),
        "refresh_tolerance": draw(st.sampled_from([0.0, 0.3, 2.0])),
        "protect_last": draw(st.sampled_from([0, 0, 1])),
        "cache_device": draw(st.sampled_from(["auto", "model", "cpu"])),
    }


@st.composite
def graphs(draw: Any, families: Sequence[Family], nodes: Sequence[str], samplers: Sequence[str] = ()) -> Graph:
    """A whole graph, of one of the models and some of the other nodes; `samplers` are those of `moving`."""
    family = draw(st.sampled_from(families))
    kinds = [*WHOLE_KINDS, *(PICTURE_KINDS if len(family.latent) > 2 else ())]
    steps = draw(st.integers(2, 7))
    # Those of the host twice: they are what most graphs have.
    sampler_names = [comfy.samplers.SAMPLER_NAMES] * 2 + [PREDICTED_WITH] + ([sorted(samplers)] if samplers else [])
    run = {
        "steps": steps,
        "cfg": draw(st.sampled_from([1.0, 3.0, 7.0])),
        "sampler": draw(st.one_of(*(st.sampled_from(names) for names in sampler_names))),
        "scheduler": draw(st.sampled_from(comfy.samplers.SCHEDULER_NAMES)),
        "denoise": draw(st.sampled_from([1.0, 1.0, 0.5])),
    }
    if draw(st.booleans()) and steps > 3:
        run["last_step"] = steps - 1
    names = draw(st.lists(st.sampled_from(sorted(nodes)), max_size=3, unique=True))
    cut = draw(st.integers(0, len(names)))
    return Graph(
        family=family,
        settings=draw(gate_settings()),
        before=names[:cut],
        behind=names[cut:],
        positive=draw(conds(10, kinds, family.text_lengths)),
        negative=draw(conds(20, kinds, family.text_lengths)),
        batch=draw(st.sampled_from([1, 1, 2])),
        size=draw(st.sampled_from(family.sizes or [family.latent[1:]])),
        run=run,
    )


def apply_all(nodes: Mapping[str, Node], model: Any, names: list[str]) -> Any:
    for name in names:
        model = nodes[name](model)
    return model


def sample(model: Any, graph: Graph) -> torch.Tensor:
    torch.manual_seed(0)  # some nodes draw from the global generator
    return graph.family.sample(model, **graph.inputs())


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Bit-equal; not a number equals itself, for runs that diverge without T-GATE too."""
    return one.detach().numpy().tobytes() == other.detach().numpy().tobytes()


@contextmanager
def models_of(families: Sequence[Family]) -> Iterator[dict[str, Any]]:
    """The models by name; they, and all else that exists, are left out of the search for what an example leaves."""
    made = {family.name: family.make() for family in families}
    _set_aside()
    yield made
    gc.unfreeze()
    _set_aside()


def _set_aside() -> None:
    gc.collect()
    gc.freeze()


def held_captures(pack: Any) -> int:
    """How many captures there are that nothing frees, of whatever run."""
    gc.collect()
    capture = pack.core("engine.cache").Capture
    return sum(type(item) is capture for item in gc.get_objects())


def searching(examples: int) -> Any:
    """Settings of a search: always the same graphs; TGATE_EXAMPLES asks for another number, of new ones."""
    return hypothesis.settings(
        max_examples=int(os.environ.get("TGATE_EXAMPLES", examples)),
        deadline=None,
        # A smaller graph is rarely a clearer one, and finding it takes minutes: the one that failed is printed in full.
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        derandomize="TGATE_EXAMPLES" not in os.environ,
        suppress_health_check=list(hypothesis.HealthCheck),
        print_blob=True,
    )


def check(
    graph: Graph, model: Any, gated: Any, pack: Any, nodes: Mapping[str, Node], depend_on_batch: set[str]
) -> None:
    """Sample a graph with and without T-GATE; whatever people build, these hold.

    Args:
        graph: the graph.
        model: its model.
        gated, pack: the fixtures of these names.
        nodes: the other nodes, by name.
        depend_on_batch: nodes that make their result depend on the batch, with or without T-GATE.
    """
    before = apply_all(nodes, model, graph.before)
    without = apply_all(nodes, before, graph.behind)
    try:
        plain = sample(without, graph)
    except Exception:  # these nodes do not go together, T-GATE or not
        # What the error holds is not freed in order: the host then looks for that model at every load from here on.
        comfy.model_management.current_loaded_models.clear()
        hypothesis.reject()
    settings = dict(graph.settings)
    if settings["gate_unit"] == MEASURED:
        settings["probe"] = probe_of(graph, model, pack, nodes)
    patched = apply_all(nodes, gated(before, **settings), graph.behind)
    result = sample(patched, graph)
    check_reasons(patched, pack, settings)
    if torch.isfinite(plain).all():
        assert torch.isfinite(result).all(), "not finite"
    assert same(sample(patched, graph), result), "another result when sampled again"
    assert same(sample(without, graph), plain), "the model without T-GATE was affected"
    off = apply_all(nodes, gated(before, **{**settings, "gate": 100.0, "gate_unit": "step"}), graph.behind)
    # What our nodes put around the host's sampling is where the last of their nodes is.
    moved = sorted(graph.before, key=OURS.__contains__)
    beyond = plain if moved == graph.before else sample(apply_all(nodes, model, [*moved, *graph.behind]), graph)
    assert same(sample(off, graph), beyond), "a gate beyond the run changes the result"
    assert held_captures(pack) == 0, "captures left behind"
    if not depend_on_batch.intersection((graph.family.name, *graph.before, *graph.behind)):
        check_batching(model, {patched: result, without: plain}, graph)


def check_reasons(patched: Any, pack: Any, settings: Mapping[str, Any]) -> None:
    """No step behind the gate ran in full that was to save, and no run saved nothing, without a reason."""
    records = pack.core("host.install").records_of(patched)
    if records is None:  # settings that gate nothing put nothing on the model
        return
    record = records.last
    statistics, fidelity = record.counts, pack.core("gate.schedule").Phase.FIDELITY
    saved = (
        statistics.attentions_reused,
        statistics.cond_only_passes,
        statistics.shallow_calls,
        statistics.skipped_passes,
    )
    # Where self-attention alone is reused, some steps behind the gate capture it by schedule.
    is_each_to_save = settings["cross_attention"] or settings["guidance"] != "keep"
    in_full = [
        step
        for step, cell in enumerate(record.cells)
        if is_each_to_save and cell.phase is fidelity and cell.has_run and not statistics.has_saved_in(step)
    ]
    assert statistics.notes or (any(saved) and not in_full), f"no reason that steps {in_full} ran in full"


def probe_of(graph: Graph, model: Any, pack: Any, nodes: Mapping[str, Node]) -> Any:
    """A measurement of this graph, but for nodes of ours, beside which none is made; it leaves the result as it is."""
    before, behind = ([name for name in names if name not in OURS] for names in (graph.before, graph.behind))
    watched, probe = pack.nodes["TGATEProbe"].execute(model=apply_all(nodes, model, before)).args
    plain = apply_all(nodes, model, [*before, *behind])
    assert same(sample(apply_all(nodes, watched, behind), graph), sample(plain, graph)), "the probe changes the result"
    assert probe.profile is not None, "nothing was measured"
    return type(probe)(probe.profile)


def check_batching(model: Any, together: dict[Any, torch.Tensor], graph: Graph) -> None:
    """One call for all conds or one each: a difference is rounding, or as large without T-GATE."""
    factor, difference = model.model.memory_usage_factor, []
    model.model.memory_usage_factor = HUGE
    try:
        for sampled, expected in together.items():
            difference.append(float((sample(sampled, graph) - expected).abs().max() / expected.std()))
            if not difference[0] > ROUNDING:
                return
    finally:
        model.model.memory_usage_factor = factor
    assert not difference[0] > 20 * difference[1], f"batching shows: {difference}"
