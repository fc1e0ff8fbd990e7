"""TGATE Report: what a sampling run did, what it saved, and why not more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..tgate_core.host.costs import UncountableError, count_run
from ..tgate_core.host.install import records_of, why_not
from ..tgate_core.report.pictures.timeline_picture import draw_timeline
from ..tgate_core.report.record import RunRecord
from ..tgate_core.report.text import report_text
from .apply import CATEGORY
from .inputs import check_latent, check_model
from .pictures import as_image

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

TITLE = "TGATE report"
NO_NODE = "no TGATE node is on this model; connect the model that goes into the sampler"
NO_RUN = "this model has not been sampled yet; connect the latent that comes out of its sampler"
OTHER_LATENT = "this latent is not one that the model's last runs made; shown is the run that ended last"


class TGATEReport(io.ComfyNode):
    """Tell what a run did."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as the editor shows it."""
        return io.Schema(
            node_id="TGATEReport",
            display_name="TGATE Report",
            category=CATEGORY,
            description=(
                "Says what TGATE did in a run: steps gated, attention and guidance saved, MACs, memory, seconds, and "
                "why not more. Connect the model that goes into the sampler, and the latent that comes out of it."
            ),
            search_aliases=["T-GATE report", "tgate report", "statistics", "why no speed-up"],
            inputs=[
                io.Model.Input("model", tooltip="The model as it goes into the sampler."),
                io.Latent.Input("latent", tooltip="What the sampler made; it is passed on as it is."),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The same latent."),
                io.String.Output(display_name="report", tooltip="The report as text."),
                io.Image.Output(display_name="timeline", tooltip="The run, one column a step."),
            ],
        )

    @classmethod
    def execute(cls, model: ModelPatcher, latent: dict[str, Any]) -> io.NodeOutput:
        """The latent, the report, and a picture (1, H, W, 3) of the run.

        Raises:
            ValueError: the model or the latent is none.
        """
        check_model(model)
        check_latent(latent)
        records = records_of(model)
        record = None if records is None else records.find(latent["samples"]) or records.last
        if records is None or record is None:
            reason = NO_RUN if records is not None else why_not(model) or NO_NODE
            lines = [f"Why nothing happened: {reason}"]
            return cls._output(latent, lines, draw_timeline((), TITLE, lines))
        lines = _lines(model, record)
        if record is not records.find(latent["samples"]):
            lines.append(f"Note: {OTHER_LATENT}")
        return cls._output(latent, lines, draw_timeline(record.cells, TITLE, lines))

    @staticmethod
    def _output(latent: dict[str, Any], lines: list[str], picture: Any) -> io.NodeOutput:
        text = "\n".join(lines)
        return io.NodeOutput(latent, text, as_image(picture), ui={"text": (text,)})


def _lines(model: ModelPatcher, record: RunRecord) -> list[str]:
    if record.is_plain:
        return report_text(record, None)
    try:
        return report_text(record, count_run(model, record))
    except UncountableError as error:
        return report_text(record, None, str(error))
