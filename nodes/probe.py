"""TGATE Probe and TGATE Convergence Plot: where attention settles, measured on the user's own model and prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..tgate_core.engine.identity import Fingerprint
from ..tgate_core.engine.inputs import number
from ..tgate_core.host.install import LIVE_PROBE, apply_probe
from ..tgate_core.probe.profile import Probe
from ..tgate_core.report.pictures.convergence_picture import draw_convergence
from .apply import ALIASES, CATEGORY
from .inputs import check_model, check_probe
from .pictures import as_image, shown_on
from .ui_events import output

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from torch import Tensor

    from ..tgate_core.probe.profile import ConvergenceProfile

ProbeType = io.Custom("TGATE_PROBE")
DEFAULT_TOLERANCE = 10.0
MAX_TOLERANCE = 100.0
NO_RUN = (
    "TGATE: the probe holds no measurement; sample the model that comes out of TGATE Probe, and connect that sampler's "
    "latent to TGATE Convergence Plot."
)
NOT_WAITED = (
    "TGATE: without a latent this node does not wait for the run that TGATE Probe measures, and the probe holds no "
    "measurement of it; connect the latent of the measured sampler."
)
OTHER_LATENT = (
    "This latent is not the one that the measured run made: another node changed it, or this is the measurement of "
    "another run."
)


class TGATEProbe(io.ComfyNode):
    """Measure a model while it samples."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as the editor shows it."""
        return io.Schema(
            node_id="TGATEProbe",
            display_name="TGATE Probe",
            category=CATEGORY,
            description=(
                "Measures, while a picture is sampled, how much attention still changes from step to step. The picture "
                "is the same to the last bit. TGATE Convergence Plot shows the outcome and recommends a gate."
            ),
            search_aliases=[*ALIASES, "measure attention", "convergence"],
            inputs=[io.Model.Input("model", tooltip="The model as it comes from the loader, without TGATE Apply.")],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The same model, measured; connect it to a sampler."),
                ProbeType.Output(display_name="probe", tooltip="What is measured; for TGATE Convergence Plot."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model: ModelPatcher) -> io.NodeOutput:
        """A clone of `model` that is measured, and the probe that will hold what was seen.

        Raises:
            ValueError: the model has no attention, or is none.
        """
        check_model(model)
        probe = Probe(is_live=True)
        return output(apply_probe(model, probe), cls.hidden, probe)


class TGATEConvergencePlot(io.ComfyNode):
    """Show a measurement."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as the editor shows it."""
        return io.Schema(
            node_id="TGATEConvergencePlot",
            display_name="TGATE Convergence Plot",
            category=CATEGORY,
            description=(
                "Draws what TGATE Probe measured, a line for each block, and recommends the step from which "
                "cross-attention may be frozen."
            ),
            search_aliases=[*ALIASES, "gate step", "convergence"],
            inputs=[
                ProbeType.Input("probe", tooltip="From TGATE Probe or TGATE Load Probe."),
                io.Float.Input(
                    "tolerance",
                    default=DEFAULT_TOLERANCE,
                    min=0.1,
                    max=MAX_TOLERANCE,
                    step=0.5,
                    tooltip=(
                        "Percent. Attention counts as settled once its output changes by no more than this from a step "
                        "to the next. Smaller: a later gate, closer to the plain picture."
                    ),
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="What the measured sampler made, so that this node waits for it; needed with TGATE Probe.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="plot", tooltip="The measurement as a picture."),
                io.Float.Output(display_name="gate", tooltip="Recommended gate step; connect it to gate (unit: step)."),
                io.String.Output(display_name="text", tooltip="The recommendation in words."),
                ProbeType.Output(
                    display_name="probe",
                    tooltip="The probe, measured: to be saved, or for TGATE Apply (Advanced) with unit 'measured'.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls, probe: Probe, tolerance: float = DEFAULT_TOLERANCE, latent: dict[str, Any] | None = None
    ) -> io.NodeOutput:
        """The picture (1, H, W, 3), the gate step, the recommendation, and the probe.

        Raises:
            ValueError: nothing was measured yet, or it is not known for which run; or an input is of another type or
                out of range.
        """
        check_probe(probe)
        tolerance = number("tolerance", tolerance, MAX_TOLERANCE)
        if probe.is_live and latent is None:
            raise ValueError(NOT_WAITED)
        if probe.profile is None:
            raise ValueError(NO_RUN)
        profile = probe.profile
        gate_step = profile.gate_step(tolerance)
        text = recommendation(profile, tolerance)
        if latent is not None and not _is_made_by(probe, latent["samples"]):
            text = f"{text} {OTHER_LATENT}"
        picture = as_image(draw_convergence(profile, tolerance, gate_step))
        # A copy: the next run of the measured model fills the original anew.
        return io.NodeOutput(picture, float(gate_step), text, Probe(profile), ui=shown_on(cls, picture, text))


def _is_made_by(probe: Probe, latent: Tensor) -> bool:
    """Whether a latent, (B, C, …), came out of the measured run, as far as that is known."""
    return probe.latent is None or probe.latent.matches(Fingerprint.of(latent))


def measured(probe: Probe) -> ConvergenceProfile:
    """What a probe holds.

    Raises:
        ValueError: nothing, or it is not known of which run; or it is no probe.
    """
    check_probe(probe)
    if probe.is_live:
        raise ValueError(LIVE_PROBE)
    if probe.profile is None:
        raise ValueError(NO_RUN)
    return probe.profile


def recommendation(profile: ConvergenceProfile, tolerance: float) -> str:
    """The gate that follows from a measurement, in words."""
    steps, gate_step = profile.steps, profile.gate_step(tolerance)
    name = profile.gated_name
    if gate_step >= steps:
        return f"{name.capitalize()} does not settle within {tolerance:g} % a step in {steps} steps: raise tolerance."
    sites = profile.site_gate_steps(tolerance).values()
    return (
        f"Recommended gate: step {gate_step} of {steps} ({gate_step / steps:.0%} of the run), where {name} "
        f"changes by no more than {tolerance:g} % a step. Single blocks settle between step {min(sites)} and "
        f"{max(sites)}."
    )
