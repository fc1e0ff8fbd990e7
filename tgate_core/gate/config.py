"""What a user asks for: the frozen settings of one TGATE Apply node."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from ..engine.inputs import MAX_MIB, MAX_STEPS, choice, number, switch, whole_number
from ..engine.storage import CACHE_DEVICES, CacheDevice
from .guidance import MODES
from .refresh import REFRESH_RULES, RefreshRule

GateUnit = Literal["step", "fraction of steps", "percent of schedule", "measured"]
GATE_UNITS: tuple[GateUnit, ...] = get_args(GateUnit)
GUIDANCE_MODES = tuple(MODES)
# What of a network can be gated: with joint attention of text and picture nothing is frozen, but it can be reused like
# self-attention, without its projections where it stands inline in a block; of a network that is not known, guidance is
# all that can be dropped.
Scope = Literal["all", "joint attention", "inline joint attention", "guidance alone"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

MAX_GATE = 10000.0
MAX_PERCENT = 100.0
MAX_TOLERANCE = 2.0

# Least and most of each setting that counts something, and what to do about one that does not fit.
_COUNTS: dict[str, tuple[int, int, str]] = {
    "sp_interval": (1, MAX_STEPS, "use 1 to compute self-attention on every planning step"),
    "fi_interval": (1, MAX_STEPS, "use 1 to compute self-attention on every later step"),
    "warm_up": (0, MAX_STEPS, "use 0 for no warm-up"),
    "refresh_gap": (1, MAX_STEPS, "use 1 for the closest"),
    "guided_steps": (0, MAX_STEPS, "use 0 to go by refresh_gap"),
    "protect_last": (0, MAX_STEPS, "use 0 to protect no step"),
    "cache_limit_mb": (0, MAX_MIB, "use 0 for no limit"),
}


@dataclass(frozen=True)
class GateConfig:
    """Settings of T-GATE; the names follow the published package (`tgate` 1.0.0).

    Attributes:
        gate: first step of the fidelity phase, in `gate_unit`.
        gate_unit: "step" of this run, "fraction of steps" of this run (0 to 1), "percent of schedule" (0 to 1), or
            "measured": where a probe saw attention settle, `gate` being the most change a step, in percent.
        sp_interval: planning phase: self-attention is computed every N steps, reused in between.
        fi_interval: fidelity phase: the same.
        warm_up: self-attention is always computed before this step.
        cross_attention: whether cross-attention is gated.
        self_attention: whether self-attention is gated.
        guidance: what remains of classifier-free guidance from the gate step on.
        refresh: whether the fidelity phase takes guided steps again, which renew captures and guidance difference.
        refresh_gap: steps from the last guided step before the gate to the first refreshed one; later gaps grow.
        guided_steps: for "growing gaps": how many steps are guided in all, those before the gate included; they spread
            over the run. 0: refresh_gap decides. Presets alone set it.
        refresh_tolerance: for "by error": how far a held difference may be off when it is renewed, as a share.
        protect_last: run the last N steps in full.
        cache_device: where captures live.
        cache_limit_mb: most MiB of captures held at once, 0 for no limit; what would not fit is computed instead.

    Raises:
        ValueError: a value is of another type or out of range; the message names the input and says what to change.
    """

    gate: float = 10.0
    gate_unit: GateUnit = "step"
    sp_interval: int = 5
    fi_interval: int = 1
    warm_up: int = 2
    cross_attention: bool = True
    self_attention: bool = True
    guidance: str = "uncond"
    refresh: RefreshRule = "never"
    refresh_gap: int = 2
    guided_steps: int = 0
    refresh_tolerance: float = 0.7
    protect_last: int = 0
    cache_device: CacheDevice = "auto"
    cache_limit_mb: int = 0

    def __post_init__(self) -> None:
        checked: dict[str, object] = {
            "gate_unit": choice("gate_unit", self.gate_unit, GATE_UNITS),
            "gate": _checked_gate(self.gate, self.gate_unit),
            "cross_attention": switch("cross_attention", self.cross_attention),
            "self_attention": switch("self_attention", self.self_attention),
            "guidance": choice("guidance", self.guidance, GUIDANCE_MODES),
            "refresh": choice("refresh", self.refresh, REFRESH_RULES),
            "refresh_tolerance": number("refresh_tolerance", self.refresh_tolerance, MAX_TOLERANCE),
            "cache_device": choice("cache_device", self.cache_device, CACHE_DEVICES),
        }
        for name, limits in _COUNTS.items():
            checked[name] = whole_number(name, getattr(self, name), *limits)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def gates_nothing(self) -> bool:
        """True when neither an attention nor guidance is left to save."""
        return self.guidance == "keep" and not (self.cross_attention or self.self_attention)

    def within(self, scope: Scope) -> GateConfig | None:
        """What is left for a network of which only so much can be gated; None where nothing is."""
        if scope == "all":
            return self
        has_self_attention = self.self_attention and scope != "guidance alone"
        left = replace(self, cross_attention=False, self_attention=has_self_attention)
        mode = MODES[self.guidance]
        is_suitable = mode.suits_joint_attention or not (mode.drops_a_branch or left.gates_nothing)
        return left if is_suitable and self.gate_unit != "measured" else None


def _checked_gate(value: float, unit: GateUnit) -> float:
    gate = number("gate", value, MAX_GATE)
    if unit == "measured":
        if gate > MAX_PERCENT:
            raise ValueError(f"TGATE: gate is {gate}, but in 'measured' it is percent of change; use 0 to 100.")
        return gate
    if unit != "step" and gate > 1.0:
        raise ValueError(
            f"TGATE: gate is {gate}, but in '{unit}' it must be between 0 and 1 (0.4 = after 40 %); "
            "lower it or set gate_unit to 'step'."
        )
    return gate
