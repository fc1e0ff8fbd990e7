"""The README's table of supported models, made from their descriptions and counted through the node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .models import build_on_meta
from .pack import pack_core
from .shapes import TERA, Macs
from .usual import UsualRun, saved_at_preset

HEADING = (
    "| model | one run | settings | gated attentions, self + cross | tested | MACs, T | saved | saved, in full |\n"
    "| --- | --- | --- | --- | --- | --- | ---: | ---: |"
)


def support_line(run: UsualRun, nodes: Mapping[str, Any]) -> str:
    """One row of the table.

    Args:
        run: the run.
        nodes: the pack's node classes by id.
    """
    settings = "experimental" if is_experimental(run, nodes) else "published"
    steps = f"{run.output}, {run.steps} steps"
    tested = "parity, contract" if run.parity else "contract"
    cells = [run.name, steps, settings, gated_attentions(run, nodes), tested, *_savings(*saved_at_preset(run, nodes))]
    return f"| {' | '.join(cells)} |"


def gated_attentions(run: UsualRun, nodes: Mapping[str, Any]) -> str:
    """How many self- and cross-attentions the pack finds in the network."""
    core = pack_core(nodes)
    network = build_on_meta(run.model).model.diffusion_model
    known = core("host.architectures").architecture_of(network)
    if known.hold == "patches":  # there the host says which is which: one of each kind a block
        blocks = len(core("host.networks").attention_modules(network)) // 2
        return f"{blocks} + {blocks}"
    kinds = [site.rule.kind for site in core("host.architectures").attention_sites(network, known)]
    return f"{kinds.count('attn1')} + {kinds.count('attn2')}"


def is_experimental(run: UsualRun, nodes: Mapping[str, Any]) -> bool:
    """Whether nobody has published settings for the model."""
    core = pack_core(nodes)
    family = core("host.networks").family_of(build_on_meta(run.model))
    return bool(core("gate.presets").PresetConfig(family).is_experimental)


def _savings(plain: Macs, gated: Macs) -> tuple[str, str, str]:
    return (
        f"{plain.published / TERA:.3f} → {gated.published / TERA:.3f}",
        f"{1 - gated.published / plain.published:.0%}".replace("%", " %"),
        f"{1 - gated.full / plain.full:.0%}".replace("%", " %"),
    )
