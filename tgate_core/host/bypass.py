"""Removes all hooks of ours for one run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from comfy.patcher_extension import WrappersMP

from .attention import Options, without_own
from .forwards import StandInsAside
from .keys import PATCHER_KEY

if TYPE_CHECKING:
    from comfy.patcher_extension import WrapperExecutor


@contextmanager
def bypass(guider: Any) -> Iterator[None]:
    """Around a sampling run that does and costs what it would without a node of ours.

    Args:
        guider: the host's guider. It restores its options itself: what is put there is for this run alone.
    """
    aside = StandInsAside()

    def load(executor: WrapperExecutor, *args: Any, **kwargs: Any) -> Any:
        """The host's loading of the model, which puts the stand-ins on. Positional: model patcher, noise_shape, …"""
        loaded = executor(*args, **kwargs)
        aside.take_off(args[0])
        return loaded

    options = _without_wrappers(without_own(guider.model_options["transformer_options"]))
    options["wrappers"].setdefault(WrappersMP.PREPARE_SAMPLING, {})[PATCHER_KEY] = [load]
    guider.model_options["transformer_options"] = options
    try:
        yield
    finally:
        aside.put_back()


def _without_wrappers(options: Options) -> Options:
    """The options without our wrappers; the dictionaries of wrappers are new ones."""
    others = {
        wrapper_type: {key: wrappers for key, wrappers in by_key.items() if key != PATCHER_KEY}
        for wrapper_type, by_key in options.get("wrappers", {}).items()
    }
    return {**options, "wrappers": {wrapper_type: by_key for wrapper_type, by_key in others.items() if by_key}}
