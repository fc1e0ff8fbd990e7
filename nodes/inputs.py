"""Checks of what links bring that only the host's types tell: models, latents, probes."""

from __future__ import annotations

from typing import Any

from comfy.model_patcher import ModelPatcher

from ..tgate_core.engine.inputs import shown
from ..tgate_core.probe.profile import Probe


def check_model(value: Any) -> None:
    """Refuse what is no MODEL: an any-type link, or a loader that found none in its file.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, ModelPatcher):
        raise ValueError(f"TGATE: model is {shown(value)}; connect the MODEL output of a loader.")


def check_latent(value: Any) -> None:
    """Refuse what is no LATENT.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, dict) or not hasattr(value.get("samples"), "is_nested"):
        raise ValueError(f"TGATE: latent is {shown(value)}; connect the LATENT output of a sampler.")


def check_probe(value: Any) -> None:
    """Refuse what is no probe.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, Probe):
        raise ValueError(
            f"TGATE: probe is {shown(value)}; connect the probe output of TGATE Convergence Plot or TGATE Load Probe."
        )
