"""Settings per model family, as data, and how they follow the number of steps.

Sources: arXiv 2404.02747 v2 (tables 1 to 3), the published package's own examples, and its appendix L for families
without a published row (m = 3/5 n, k = n/5).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from ..engine.inputs import choice
from ..engine.steps import round_half_up
from .config import GateConfig

PresetName = Literal["balanced", "gentle", "fast", "as published"]
PRESETS: tuple[PresetName, ...] = get_args(PresetName)
PUBLISHED: PresetName = "as published"

FEW_STEPS = 8
FEW_STEP = "few-step"
GENERIC = "generic"


@dataclass(frozen=True)
class PresetRow:
    """One setting at a given number of steps; values scale with the number of steps of the run."""

    steps: int
    gate: int
    sp_interval: int = 1
    fi_interval: int = 1
    warm_up: int = 0

    @property
    def gates_self_attention(self) -> bool:
        """Whether any interval reuses self-attention."""
        return self.sp_interval > 1 or self.fi_interval > 1

    def scaled(self, steps: int) -> PresetRow:
        """The same setting for a run of `steps` steps; a gate never rounds down to step 0."""
        scale = steps / self.steps
        return PresetRow(
            steps=steps,
            gate=max(1, round_half_up(self.gate * scale)),
            sp_interval=self._scaled_interval(self.sp_interval, scale),
            fi_interval=self._scaled_interval(self.fi_interval, scale),
            warm_up=round_half_up(self.warm_up * scale),
        )

    @staticmethod
    def _scaled_interval(interval: int, scale: float) -> int:
        return interval if interval == 1 else max(2, round_half_up(interval * scale))


@dataclass(frozen=True)
class FamilyRows:
    """Rows of one family: as published, the larger gate step, and the smaller one with k = 3.

    `guidance` is what the published code does after the gate. For Stable Video Diffusion it goes on with the picture:
    what it takes for the negative image latents is encoded without guidance, and so holds the picture, not zeros.
    """

    published: PresetRow
    gentle: PresetRow
    fast: PresetRow
    guidance: str = "uncond"


_SDXL = FamilyRows(
    published=PresetRow(steps=25, gate=10, sp_interval=5, warm_up=2),
    gentle=PresetRow(steps=25, gate=10),
    fast=PresetRow(steps=25, gate=5, sp_interval=3, warm_up=1),
)
_SD = FamilyRows(
    published=PresetRow(steps=25, gate=5),
    gentle=PresetRow(steps=25, gate=10),
    fast=PresetRow(steps=25, gate=5, sp_interval=3, warm_up=1),
)

_PIXART = FamilyRows(
    published=PresetRow(steps=25, gate=15, sp_interval=3, warm_up=2),
    gentle=PresetRow(steps=25, gate=15),
    fast=PresetRow(steps=25, gate=10, sp_interval=3, warm_up=2),
)

ROWS: dict[str, FamilyRows] = {
    "sd15": _SD,
    "sd21": _SD,
    "sdxl": _SDXL,
    "playground-2.5": _SDXL,
    "svd": replace(_SDXL, guidance="cond_mean"),
    "pixart": _PIXART,
    FEW_STEP: FamilyRows(
        published=PresetRow(steps=4, gate=1),
        gentle=PresetRow(steps=4, gate=2),
        fast=PresetRow(steps=4, gate=1),
    ),
    GENERIC: FamilyRows(
        published=PresetRow(steps=25, gate=15, sp_interval=5, warm_up=2),
        gentle=PresetRow(steps=25, gate=15),
        fast=PresetRow(steps=25, gate=10, sp_interval=3, warm_up=2),
    ),
}


@dataclass(frozen=True)
class PresetConfig:
    """A preset for a model family; what it means is settled when a run starts.

    Raises:
        ValueError: the preset does not exist.
    """

    family: str
    preset: PresetName = "balanced"

    def __post_init__(self) -> None:
        object.__setattr__(self, "preset", choice("preset", self.preset, PRESETS))

    @property
    def is_experimental(self) -> bool:
        """Whether there are no published settings for the family."""
        return self.family == GENERIC

    def resolve(self, steps: int, has_guidance: bool) -> GateConfig:
        """Settings for one run.

        Args:
            steps: steps of the run.
            has_guidance: whether the run uses classifier-free guidance (cfg other than 1).
        """
        is_few_step = steps <= FEW_STEPS or not has_guidance
        rows = ROWS[FEW_STEP if is_few_step else self.family]
        row = self._row(rows).scaled(steps)
        guidance: str = "cached_delta"
        if self.preset == "as published":
            guidance = ROWS[self.family].guidance
        return GateConfig(
            gate=row.gate,
            sp_interval=row.sp_interval,
            fi_interval=row.fi_interval,
            warm_up=row.warm_up,
            self_attention=row.gates_self_attention,
            guidance=guidance,
        )

    def _row(self, rows: FamilyRows) -> PresetRow:
        if self.preset == "gentle":
            return rows.gentle
        return rows.fast if self.preset == "fast" else rows.published
