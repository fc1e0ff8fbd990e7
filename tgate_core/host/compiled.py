"""Networks that torch compiled: compiled code replays what its first call did, whatever later ones are to reuse.

The host's compile node even tells torch to disregard the options that say so. Calls that capture or reuse therefore say
it otherwise, see `compiled_calls`, or run on the network as it was before; nothing that torch knows of all threads is
touched for that.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

from comfy.patcher_extension import WrappersMP
from torch import nn

from .attention import Options
from .keys import COMPILE_KEY

COMPILED_IN_PLACE = (
    "torch.compile: another node compiled the network in place, so nothing is captured or reused; "
    "compile it with TorchCompileModel instead"
)


def is_compiled_per_call(transformer_options: Options) -> bool:
    """Whether a compile node puts its modules in place for each network call alone."""
    return COMPILE_KEY in transformer_options.get("wrappers", {}).get(WrappersMP.APPLY_MODEL, {})


def uncompiled(transformer_options: Options) -> Options:
    """The options of network calls that run on the modules as they are; its dictionaries of wrappers are new ones."""
    if not is_compiled_per_call(transformer_options):
        return transformer_options
    by_type = transformer_options["wrappers"]
    others = {key: wrappers for key, wrappers in by_type[WrappersMP.APPLY_MODEL].items() if key != COMPILE_KEY}
    return {**transformer_options, "wrappers": {**by_type, WrappersMP.APPLY_MODEL: others}}


def is_compiled_in_place(network: nn.Module) -> bool:
    """Whether a network, or any part of it, would run compiled code in every call."""
    return any(_is_compiled(module) for module in network.modules())


def is_compiled_whole(network: nn.Module) -> bool:
    """Whether a network is what torch.compile makes of one."""
    return "_orig_mod" in vars(network)["_modules"]


def _is_compiled(module: nn.Module) -> bool:
    own = vars(module)
    # What torch.compile makes of a module, what Module.compile leaves on one, and what it makes of a method.
    is_marked = own.get("_compiled_call_impl") is not None
    return is_compiled_whole(module) or is_marked or any(_is_compiled_function(value) for value in own.values())


def _is_compiled_function(value: Any) -> bool:
    if not isinstance(value, FunctionType):
        return False
    return hasattr(value, "_torchdynamo_orig_callable") and not getattr(value, "_torchdynamo_disable", False)
