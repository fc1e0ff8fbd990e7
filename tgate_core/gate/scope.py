"""What a preset means for a network of which not all can be gated."""

from __future__ import annotations

from dataclasses import replace

from .config import GateConfig, Scope
from .presets import PresetName

# After the gate, joint attention is computed every so many steps.
JOINT_ATTENTION_INTERVAL = 3


def preset_within(scope: Scope, config: GateConfig, preset: PresetName) -> GateConfig:
    """What a preset means for a network of which only so much can be gated.

    Joint attention is reused where guided steps renew it, see `docs/quality.md`; never by `gentle`.
    """
    if scope == "all":
        return config
    is_reused = scope == "joint attention" and preset != "gentle" and config.refresh != "never"
    return replace(
        config,
        cross_attention=False,
        self_attention=is_reused,
        sp_interval=1,
        fi_interval=JOINT_ATTENTION_INTERVAL if is_reused else 1,
    )
