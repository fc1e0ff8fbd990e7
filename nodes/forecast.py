"""TGATE Forecast: some steps predicted from those before them, without a run of the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..tgate_core.forecast.schedule import MOST_STRENGTH, ForecastConfig
from ..tgate_core.host.install import apply_forecast
from .apply import CATEGORY
from .inputs import check_model
from .ui_events import output

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


class TGATEForecast(io.ComfyNode):
    """Predict some of a model's steps."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as the editor shows it."""
        return io.Schema(
            node_id="TGATEForecast",
            display_name="TGATE Forecast",
            category=CATEGORY,
            description=(
                "Speeds up any model with euler, dpmpp_2m and their kin: some steps are predicted from those before "
                "them, and the network does not run. Works alone or with TGATE Apply (Advanced) and TGATE DeepCache, "
                "in any order; beside TGATE Apply it takes the place of the preset's own predictions. The picture will "
                "change."
            ),
            search_aliases=["forecast", "predict steps", "skip steps", "step cache", "T-GATE", "tgate", "speed up"],
            inputs=[
                io.Model.Input("model", tooltip="The diffusion model to speed up; it is not changed, a copy is."),
                io.Int.Input(
                    "strength",
                    default=ForecastConfig.strength,
                    min=1,
                    max=MOST_STRENGTH,
                    step=1,
                    tooltip=(
                        "Steps predicted after each one that runs. 1 stays closest; 2 and 3 are faster and suit TGATE "
                        "Apply (Advanced) with refresh."
                    ),
                ),
                io.Float.Input(
                    "start",
                    default=ForecastConfig.start,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Share of this sampler's steps that all run first: 0.2 leaves the first fifth alone.",
                ),
                io.Float.Input(
                    "end",
                    default=ForecastConfig.end,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Share of this sampler's steps after which all run: 0.8 keeps the last fifth's detail.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model with Forecast; connect it to TGATE Apply or the sampler.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        strength: int = ForecastConfig.strength,
        start: float = ForecastConfig.start,
        end: float = ForecastConfig.end,
    ) -> io.NodeOutput:
        """A clone of `model` with Forecast; see `ForecastConfig` for the settings.

        Raises:
            ValueError: a setting is of another type or out of range, or the model is none.
        """
        check_model(model)
        return output(apply_forecast(model, ForecastConfig(strength, start, end)), cls.hidden)
