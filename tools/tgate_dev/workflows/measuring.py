"""Measuring where attention settles, and gating there."""

from __future__ import annotations

from .description import Group, Node, Note, Workflow
from .parts import (
    PICTURE_CHANGES,
    SD15,
    WRITE_YOURS,
    advanced_gate,
    checkpoint,
    gates,
    prompt_group,
    sampler,
    saved_picture,
    size,
)

PLOT_HEIGHT = 420
TEXT_HEIGHT = 190


def probe() -> Workflow:
    """A run that is measured, and one that is gated where the first settled."""
    note = Note(
        "Find your gate: TGATE Probe",
        (WRITE_YOURS,),
        (
            "**tolerance** of the plot: how much attention may still change from a step to the next, in percent. "
            "Smaller: a later gate, closer to the plain picture.",
            "**gate** of TGATE Apply (Advanced): the same tolerance, as **gate_unit** is *measured*.",
            "**TGATE Save Probe**: to use the measurement again, put **TGATE Load Probe** in place of the upper row.",
        ),
        "The upper sampler runs without TGATE while TGATE Probe measures; its picture is the same to the last bit. The "
        "lower one freezes each block's cross-attention where that block settled, and drops the second guidance pass "
        "where they settled on average. TGATE Report says what that saved.",
        (),
        (*PICTURE_CHANGES, "Where attention settles depends on model, sampler and prompt: measure once for each."),
        node="TGATE Probe",
    )
    measured = sampler(25, 7.0, "dpmpp_2m", "karras", model="probe.model")
    gated = sampler(25, 7.0, "dpmpp_2m", "karras")
    gate_node = advanced_gate("model.MODEL", gate=10.0, gate_unit="measured", guidance="cached_delta", sp_interval=1)
    return Workflow(
        "probe",
        note,
        (
            Group("Model", 1, (checkpoint(SD15),)),
            prompt_group("model.CLIP"),
            size("EmptyLatentImage", column=2, width=512, height=512),
            gates(Node("probe", "TGATEProbe", links={"model": "model.MODEL"})),
            Group(
                "Measured run",
                4,
                (Node("measured", measured.kind, measured.values, measured.links, title="Sampler without TGATE"),),
            ),
            Group("Measurement", 5, _measurement()),
            gates(
                Node(gate_node.name, gate_node.kind, gate_node.values, {**gate_node.links, "probe": "plot.probe"}),
                column=6,
            ),
            Group("Gated run", 7, (gated,)),
            Group("Report", 8, _report()),
            Group(
                "Picture",
                9,
                (
                    Node("decoded", "VAEDecode", links={"samples": "report.latent", "vae": "model.VAE"}),
                    saved_picture("picture", "decoded", "probe"),
                ),
            ),
        ),
    )


def _measurement() -> tuple[Node, ...]:
    return (
        Node("plot", "TGATEConvergencePlot", {"tolerance": 10.0}, {"probe": "probe.probe", "latent": "measured"}),
        Node("shown_plot", "PreviewImage", links={"images": "plot.plot"}, title="Plot", height=PLOT_HEIGHT),
        Node("advice", "PreviewAny", links={"source": "plot.text"}, title="Recommendation", height=TEXT_HEIGHT),
        Node("saved_probe", "TGATESaveProbe", links={"probe": "plot.probe"}),
    )


def _report() -> tuple[Node, ...]:
    return (
        Node("report", "TGATEReport", links={"model": "gate", "latent": "sampler"}),
        Node("told", "PreviewAny", links={"source": "report.report"}, title="Report in words", height=TEXT_HEIGHT),
        Node("timeline", "PreviewImage", links={"images": "report.timeline"}, title="Timeline", height=300),
    )


MEASURING = (probe,)
