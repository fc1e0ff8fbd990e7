"""Lets the tests import what the fixture script imports: it runs elsewhere and finds its modules beside itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import comfy.model_base
import pytest

sys.path.append(str(Path(__file__).resolve().parent))

from parity_cases import MODELS, Case
from parity_host import PublishedRun, build_model, load_published

FIXTURES = Path(__file__).resolve().parent / "fixtures"


@pytest.fixture(scope="session")
def models() -> dict[str, Any]:
    """The small models by name, as ComfyUI model patchers."""
    return {name: build_model(name) for name in MODELS}


@pytest.fixture(scope="session")
def published() -> dict[str, PublishedRun]:
    """What the published package made of them, by name of the model."""
    return {name: load_published(FIXTURES / f"{name}.safetensors") for name in MODELS}


@pytest.fixture
def gated(pack: Any) -> Callable[[Any, Case], Any]:
    """A model patched by the node with the settings of a case; a plain case leaves it alone."""

    def apply(model: Any, case: Case) -> Any:
        if case.schedule is None:
            return model
        # The package's loader for video asks for negative image latents without guidance, and gets the picture's own.
        guidance = "cond_mean" if isinstance(model.model, comfy.model_base.SVD_img2vid) else "uncond"
        output = pack.nodes["TGATEApplyAdvanced"].execute(
            model=model, **asdict(case.schedule), gate_unit="step", guidance=guidance, cache_device="model"
        )
        return output.args[0]

    return apply
