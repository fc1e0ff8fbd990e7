"""A custom node for the demo alone: measures a sampling run from inside the server. Not part of the pack."""

from __future__ import annotations

from typing import Any

from .meter import attach


class Meter:
    """Passes a model on; a sampling run of it writes what it did to a file."""

    RETURN_TYPES = ("MODEL",)
    FUNCTION = "execute"
    CATEGORY = "tgate_dev"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - the host's name
        """The inputs, in the host's form."""
        return {"required": {"model": ("MODEL",), "result_file": ("STRING", {}), "run": ("STRING", {})}}

    def execute(self, model: Any, result_file: str, run: str) -> tuple[Any]:
        """The model itself without a `result_file`; `run` only tells runs apart, for the host repeats none."""
        return (attach(model, result_file) if result_file else model,)


NODE_CLASS_MAPPINGS = {"TGATEDevMeter": Meter}
