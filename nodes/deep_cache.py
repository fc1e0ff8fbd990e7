"""TGATE DeepCache: the deep half of a UNet on some steps alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..tgate_core.deepcache.schedule import DeepCacheConfig
from ..tgate_core.engine.inputs import MAX_STEPS
from ..tgate_core.host.install import apply_deep_cache
from .apply import ALIASES, CATEGORY
from .inputs import check_model
from .ui_events import output

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

DEEPEST_BRANCH = 10  # of the largest known UNets; smaller ones take their own deepest


def _inputs() -> list[io.Input]:
    return [
        io.Int.Input(
            "cache_interval",
            display_name="in full every N steps",
            default=3,
            min=1,
            max=MAX_STEPS,
            step=1,
            tooltip=(
                "The network runs in full every N steps; in between, only its outer blocks run. 3 is the published "
                "value; 2 stays closer, 5 is faster; 1 switches the node off."
            ),
        ),
        io.Int.Input(
            "cache_branch_id",
            display_name="depth kept",
            default=0,
            min=0,
            max=DEEPEST_BRANCH,
            step=1,
            tooltip=(
                "How much still runs between the full steps. 0: the outermost blocks alone, fastest; "
                "larger: more blocks, closer to the plain picture."
            ),
        ),
        io.Float.Input(
            "start",
            display_name="start (share of steps)",
            advanced=True,
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Share of this sampler's steps that run in full first: 0.2 leaves the first fifth alone.",
        ),
        io.Float.Input(
            "end",
            display_name="end (share of steps)",
            advanced=True,
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Share of this sampler's steps after which all run in full: 0.8 keeps the last fifth's detail.",
        ),
    ]


class TGATEDeepCache(io.ComfyNode):
    """Run a model's deep blocks on some steps alone."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as the editor shows it."""
        return io.Schema(
            node_id="TGATEDeepCache",
            display_name="TGATE DeepCache",
            category=CATEGORY,
            description=(
                "Speeds up UNets (SD 1.5, SD 2, SDXL, SVD): between full steps only the outer blocks run, on the "
                "inner blocks' last output (DeepCache). Works alone or with TGATE Apply, in any order. The picture "
                "will change."
            ),
            search_aliases=[*ALIASES, "deep cache"],
            inputs=[
                io.Model.Input("model", tooltip="The diffusion model to speed up; it is not changed, a copy is."),
                *_inputs(),
            ],
            outputs=[io.Model.Output(tooltip="The model with DeepCache; connect it to TGATE Apply or the sampler.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        cache_interval: int = 3,
        cache_branch_id: int = 0,
        start: float = 0.0,
        end: float = 1.0,
    ) -> io.NodeOutput:
        """A clone of `model` with DeepCache; see `DeepCacheConfig` for the settings.

        Raises:
            ValueError: a setting is of another type or out of range, or the model is none.
        """
        check_model(model)
        config = DeepCacheConfig(cache_interval, cache_branch_id, start, end)
        return output(apply_deep_cache(model, config), cls.hidden)
