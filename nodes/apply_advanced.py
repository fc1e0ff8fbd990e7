"""TGATE Apply (Advanced): every setting of the method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..tgate_core.engine.inputs import MAX_MIB, MAX_STEPS
from ..tgate_core.engine.storage import CACHE_DEVICES
from ..tgate_core.gate.config import GATE_UNITS, GUIDANCE_MODES, MAX_GATE, MAX_TOLERANCE, GateConfig
from ..tgate_core.gate.guidance import MODES
from ..tgate_core.gate.refresh import REFRESH_RULES
from ..tgate_core.host.install import NO_PROBE, apply_config
from .apply import ALIASES, CATEGORY
from .inputs import check_model, check_probe
from .probe import ProbeType
from .ui_events import announcer, output

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ..tgate_core.engine.storage import CacheDevice
    from ..tgate_core.gate.config import GateUnit
    from ..tgate_core.gate.refresh import RefreshRule
    from ..tgate_core.probe.profile import Probe

# In place of an optional input that nothing is connected to.
NOT_CONNECTED = object()


def _schedule_inputs() -> list[io.Input]:
    return [
        io.Float.Input(
            "gate",
            default=0.2,
            min=0.0,
            max=MAX_GATE,
            step=0.05,
            tooltip=(
                "From here on cross-attention is frozen and guidance saved, counted in gate_unit. 0.2 of the steps is "
                "fast, 0.4 stays closer; past the last step, the node does nothing."
            ),
        ),
        io.Combo.Input(
            "gate_unit",
            display_name="gate unit",
            options=list(GATE_UNITS),
            default="fraction of steps",
            tooltip=(
                "step: counted in this sampler's run. fraction of steps: 0.4 is 40 % of this run's steps. "
                "percent of schedule: 0.4 is 40 % of the whole noise schedule; use it for img2img and split samplers. "
                "measured: each block where the connected probe saw it settle; gate is then the most change, percent."
            ),
        ),
        io.Int.Input(
            "sp_interval",
            display_name="self-attention every N steps",
            default=5,
            min=1,
            max=MAX_STEPS,
            step=1,
            tooltip=(
                "Before the gate: self-attention is computed every N steps, reused in between. 3 or 5 are usual; "
                "1 computes it always."
            ),
        ),
        io.Int.Input(
            "fi_interval",
            display_name="self-attention every N steps after the gate",
            advanced=True,
            default=1,
            min=1,
            max=MAX_STEPS,
            step=1,
            tooltip="After the gate: the same, where self-attention matters most. Leave it at 1 unless you test.",
        ),
        io.Int.Input(
            "warm_up",
            display_name="warm-up steps",
            advanced=True,
            default=2,
            min=0,
            max=MAX_STEPS,
            step=1,
            tooltip="Self-attention is always computed before this step; 2 is the published value.",
        ),
    ]


def _scope_inputs() -> list[io.Input]:
    modes = ". ".join(f"{mode.name}: {mode.summary}" for mode in MODES.values())
    return [
        io.Boolean.Input(
            "cross_attention",
            display_name="freeze cross-attention",
            advanced=True,
            default=True,
            tooltip="Freeze cross-attention (how the picture follows the text) from the gate on.",
        ),
        io.Boolean.Input(
            "self_attention",
            display_name="reuse self-attention",
            advanced=True,
            default=True,
            tooltip="Reuse self-attention by sp_interval and fi_interval. Off: it is always computed.",
        ),
        io.Combo.Input(
            "guidance",
            display_name="guidance after the gate",
            options=list(GUIDANCE_MODES),
            default="cached_delta",
            tooltip=f"After the gate. {modes}.",
        ),
        io.Int.Input(
            "protect_last",
            display_name="last steps in full",
            default=0,
            min=0,
            max=MAX_STEPS,
            step=1,
            tooltip="Run the last N steps in full, guidance included; 1 or 2 restores fine detail.",
        ),
        io.Combo.Input(
            "cache_device",
            display_name="captures kept on",
            advanced=True,
            options=list(CACHE_DEVICES),
            default="auto",
            tooltip=(
                "Where captured attention is kept. model: beside the model, fastest. cpu: saves video memory. "
                "auto: beside the model unless memory runs short."
            ),
        ),
        io.Int.Input(
            "cache_limit_mb",
            display_name="captures at most (MiB)",
            advanced=True,
            default=0,
            min=0,
            max=MAX_MIB,
            step=64,
            tooltip=(
                "Most MiB of captured attention to hold; what does not fit is computed instead. 0: no limit. "
                "SDXL at 1024 x 1024 needs about 420."
            ),
        ),
    ]


def _refresh_inputs() -> list[io.Input]:
    """Optional, and behind all other widgets: prompts of before go on working, and without these mean 'never'."""
    return [
        io.Combo.Input(
            "refresh",
            display_name="refresh after the gate",
            optional=True,
            options=list(REFRESH_RULES),
            default="growing gaps",
            tooltip=(
                "After the gate, full guided steps now and then renew what is reused; closer to the plain picture. "
                "never: as published. growing gaps: after refresh_gap steps, then ever more rarely, none late. "
                "by error: when the held difference has become wrong by refresh_tolerance."
            ),
        ),
        io.Int.Input(
            "refresh_gap",
            display_name="steps to the first refresh",
            optional=True,
            advanced=True,
            default=2,
            min=1,
            max=MAX_STEPS,
            step=1,
            tooltip="With refresh: steps from the last full step before the gate to the first refreshed one.",
        ),
        io.Float.Input(
            "refresh_tolerance",
            display_name="refresh tolerance",
            optional=True,
            advanced=True,
            default=0.7,
            min=0.0,
            max=MAX_TOLERANCE,
            step=0.01,
            tooltip="With refresh 'by error': how far the held difference may be off. Smaller is closer and slower.",
        ),
    ]


class TGATEApplyAdvanced(io.ComfyNode):
    """Gate a model by explicit settings."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as the editor shows it."""
        return io.Schema(
            node_id="TGATEApplyAdvanced",
            display_name="TGATE Apply (Advanced)",
            category=CATEGORY,
            description=(
                "T-GATE with every setting of the method. A new node stays close to the plain picture; with uncond and "
                "without refresh it does what the paper does."
            ),
            search_aliases=[*ALIASES, "gate step"],
            inputs=[
                io.Model.Input("model", tooltip="The diffusion model to speed up; it is not changed, a copy is."),
                *_schedule_inputs(),
                *_scope_inputs(),
                *_refresh_inputs(),
                ProbeType.Input(
                    "probe",
                    optional=True,
                    tooltip="For gate_unit 'measured': from TGATE Convergence Plot or TGATE Load Probe.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model with T-GATE; connect it to the sampler.")],
            hidden=[io.Hidden.unique_id],
            # Another node of the same settings gets a model of its own: its runs are told to that node.
            not_idempotent=True,
        )

    @classmethod
    def validate_inputs(cls, gate_unit: str | None = None, probe: Any = NOT_CONNECTED) -> bool | str:
        """Whether the gate can be found: the host gives None for what a link brings, and nothing for what is absent."""
        if gate_unit is not None and gate_unit not in GATE_UNITS:
            return f"gate_unit is {gate_unit!r}; choose one of: {', '.join(GATE_UNITS)}."
        if gate_unit == "measured" and probe is NOT_CONNECTED:
            return NO_PROBE
        return True

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        gate: float = 10.0,
        gate_unit: GateUnit = "step",
        sp_interval: int = 5,
        fi_interval: int = 1,
        warm_up: int = 2,
        cross_attention: bool = True,
        self_attention: bool = True,
        guidance: str = "uncond",
        protect_last: int = 0,
        cache_device: CacheDevice = "auto",
        cache_limit_mb: int = 0,
        refresh: RefreshRule = "never",
        refresh_gap: int = 2,
        refresh_tolerance: float = 0.7,
        probe: Probe | None = None,
    ) -> io.NodeOutput:
        """A gated clone of `model`; see `GateConfig` for the settings.

        Raises:
            ValueError: a setting is of another type or out of range, or the model has no attention, or is none.
        """
        check_model(model)
        if probe is not None:
            check_probe(probe)
        config = GateConfig(
            gate=gate,
            gate_unit=gate_unit,
            sp_interval=sp_interval,
            fi_interval=fi_interval,
            warm_up=warm_up,
            cross_attention=cross_attention,
            self_attention=self_attention,
            guidance=guidance,
            refresh=refresh,
            refresh_gap=refresh_gap,
            refresh_tolerance=refresh_tolerance,
            protect_last=protect_last,
            cache_device=cache_device,
            cache_limit_mb=cache_limit_mb,
        )
        return output(apply_config(model, config, announcer(cls.hidden), probe), cls.hidden)
