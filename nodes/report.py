"""TGATE Report: what a sampling run did, what it saved, and why not more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..tgate_core.host.costs import UncountableError, count_run
from ..tgate_core.host.install import records_of, why_not
from ..tgate_core.report.cost import RunCost
from ..tgate_core.report.pictures.timeline_picture import draw_timeline
from ..tgate_core.report.record import RunRecord
from ..tgate_core.report.text import headline, report_text
from ..tgate_core.report.work import run_saving
from .apply import ALIASES, CATEGORY
from .inputs import check_latent, check_model
from .pictures import as_image, shown_on

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
            search_aliases=[*ALIASES, "statistics", "why no speed-up"],
            inputs=[
                io.Model.Input("model", tooltip="The model as it goes into the sampler."),
                io.Latent.Input("latent", tooltip="What the sampler made; it is passed on as it is."),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The same latent."),
                io.String.Output(display_name="report", tooltip="The report as text."),
                io.Image.Output(display_name="timeline", tooltip="The run, one column a step."),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
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
        cost, uncounted = _cost(model, record)
        lines = report_text(record, cost, uncounted)
        if record is not records.find(latent["samples"]):
            lines.append(f"Note: {OTHER_LATENT}")
        title = headline(record, run_saving(record) if cost is None else cost.saved_share)
        return cls._output(latent, lines, draw_timeline(record.cells, title, lines))

    @classmethod
    def _output(cls, latent: dict[str, Any], lines: list[str], picture: Any) -> io.NodeOutput:
        text, image = "\n".join(lines), as_image(picture)
        return io.NodeOutput(latent, text, image, ui=shown_on(cls, image, text))


def _cost(model: ModelPatcher, record: RunRecord) -> tuple[RunCost | None, str]:
    """What the run cost, or why that cannot be counted."""
    if record.is_plain:
        return None, ""
    try:
        return count_run(model, record), ""
    except UncountableError as error:
        return None, str(error)
