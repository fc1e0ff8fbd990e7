"""TGATE Apply: one choice, the rest follows from the model and the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..tgate_core.host.install import apply_preset
from ..tgate_core.presets import PRESETS
from .inputs import check_model
from .ui_events import announcer, output

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

CATEGORY = "model/TGATE"
# What people look for who do not know the name.
ALIASES = (
    "speed", "faster", "speed up", "accelerate", "acceleration", "cfg", "guidance", "cache", "optimize", "tgate",
    "t-gate", "deepcache", "step skip",
)  # fmt: skip


class TGATEApply(io.ComfyNode):
    """Gate a model by a preset."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as the editor shows it."""
        return io.Schema(
            node_id="TGATEApply",
            display_name="TGATE Apply",
            category=CATEGORY,
            description=(
                "Speeds up sampling: some steps are predicted from those before them; where that leads astray, "
                "cross-attention and the second guidance pass are reused (T-GATE). Connect it between model loader "
                "and sampler. "
                "The picture will change."
            ),
            search_aliases=[*ALIASES, "attention cache"],
            inputs=[
                io.Model.Input("model", tooltip="The diffusion model to speed up; it is not changed, a copy is."),
                io.Combo.Input(
                    "preset",
                    options=list(PRESETS),
                    default="balanced",
                    tooltip=(
                        "How much of the plain run's work to do. balanced: 62 %. gentle: 72 %, closer to the plain "
                        "picture. fast: 35 to 40 % (more below 25 steps and with samplers that are harder to "
                        "predict, at most 55 %). as "
                        "published: T-GATE as its authors published it, without guidance after its gate; changes the "
                        "picture most."
                    ),
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model with T-GATE; connect it to the sampler.")],
            hidden=[io.Hidden.unique_id],
            # Another node of the same settings gets a model of its own: its runs are told to that node.
            not_idempotent=True,
        )

    @classmethod
    def execute(cls, model: ModelPatcher, preset: str = "balanced") -> io.NodeOutput:
        """A gated clone of `model`.

        Raises:
            ValueError: no such preset, or the model has no attention, or is none.
        """
        check_model(model)
        return output(apply_preset(model, preset, announcer(cls.hidden)), cls.hidden)
