"""What stands between the host and the network, and whether the network ran on what the host gave it.

Other nodes may cut up what is denoised, run the network on something else before the picture, or guess what it would
have said. Where none of them is about nothing is checked, and nothing of this costs anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..engine.forward import ForwardCall
from ..engine.location import is_same
from .architectures import architecture_of
from .attention import Options
from .forwards import call_of_thread, has_stand_ins
from .keys import COMPILE_KEY, INPUT_KEY, PATCHER_KEY, STEP_CACHE_KEY

if TYPE_CHECKING:
    from comfy.patcher_extension import WrapperExecutor

# Packs that guess whole steps, or the network's output in them, as their modules and functions are called.
OTHER_STEP_CACHES = ("TeaCache", "MagCache", "FBCache", "WaveSpeed", "CacheDiT", "Spectrum")


def step_cache_of(model_options: dict[str, Any]) -> str:
    """Name of another node on a model that guesses whole steps, "" where there is none."""
    options = model_options.get("transformer_options", {})
    own = options.get(STEP_CACHE_KEY)
    if own is not None:
        return str(getattr(own, "name", "EasyCache"))
    by_type = options.get("wrappers", {}).values()
    wrappers = [wrapper for by_key in by_type for some in by_key.values() for wrapper in some]
    origins = [_origin(wrapper) for wrapper in (model_options.get("model_function_wrapper"), *wrappers)]
    return next((name for name in OTHER_STEP_CACHES for origin in origins if name.lower() in origin), "")


def _origin(function: Any) -> str:
    """Where a function, or an object that is called, comes from, in small letters."""
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}".lower()


def is_cut_by_host(model_options: dict[str, Any]) -> bool:
    """Whether it is the host alone that cuts network calls out of what a pass is given."""
    if "model_function_wrapper" in model_options:
        return False
    keys = list(_wrappers(model_options.get("transformer_options", {}), WrappersMP.CALC_COND_BATCH))
    inner = keys[keys.index(PATCHER_KEY) + 1 :] if PATCHER_KEY in keys else keys
    return all(key == STEP_CACHE_KEY for key in inner)


def surrounding(transformer_options: Options) -> Options:
    """The options of a pass, in which we see what other nodes make of a network call, and of the network's input.

    Our wrapper of network calls goes behind all others. Where there are others, and where others wrap the network, we
    also note what comes in before them.
    """
    wrappers = dict(transformer_options.get("wrappers", {}))
    calls = _wrappers(transformer_options, WrappersMP.APPLY_MODEL)
    own = calls.pop(PATCHER_KEY, [])
    before = [note_latents] if calls.keys() - {COMPILE_KEY} else []
    wrappers[WrappersMP.APPLY_MODEL] = {INPUT_KEY: before, **calls, PATCHER_KEY: own}
    others = _wrappers(transformer_options, WrappersMP.DIFFUSION_MODEL)
    if others:
        wrappers[WrappersMP.DIFFUSION_MODEL] = {
            INPUT_KEY: [note_network_input],
            **others,
            PATCHER_KEY: [run_network],
        }
    return {**transformer_options, "wrappers": wrappers}


def note_latents(executor: WrapperExecutor, *args: Any, **kwargs: Any) -> Any:
    """APPLY_MODEL, before all others. Positional: x (conds * B, C, …), t, c_concat, c_crossattn, control, options."""
    *before, options = args[:6]
    return executor(*before, {**options, INPUT_KEY: args[0]}, *args[6:], **kwargs)


def is_from_host(x: Tensor, transformer_options: Options) -> bool:
    """Whether the latents of a network call, (conds * B, C, …), are the very tensor that the host has made."""
    return transformer_options.get(INPUT_KEY, x) is x


def note_network_input(executor: WrapperExecutor, *args: Any, **kwargs: Any) -> Any:
    """DIFFUSION_MODEL, before all others. Positional: the network's input, (conds * B, C, …), …"""
    current = call_of_thread()
    if current is not None and args:
        current.network_input = args[0]
    return executor(*args, **kwargs)


def run_network(executor: WrapperExecutor, *args: Any, **kwargs: Any) -> Any:
    """DIFFUSION_MODEL, behind all others: the network runs. Positional: its input, (conds * B, C, …), …"""
    current = call_of_thread()
    if current is None or not args:
        return executor(*args, **kwargs)
    if _is_input(args[0], current.network_input):
        current.has_run = True
        return executor(*args, **kwargs)
    with current.other_run():
        return executor(*args, **kwargs)


def has_network_run(call: ForwardCall, transformer_options: Options, is_attention_gated: bool) -> bool:
    """Whether a network call that is over ran the network, as far as that can be told.

    Args:
        call: the call.
        transformer_options: its options.
        is_attention_gated: whether the attentions of the run's model have stand-ins, which would have noticed. A guider
            with two models calls the other one, which need not have any, with the same options.
    """
    # The shallow blocks of some UNets, as SDXL's, hold no attention that would notice.
    if call.has_run or call.is_shallow or COMPILE_KEY in _wrappers(transformer_options, WrappersMP.APPLY_MODEL):
        return True
    if INPUT_KEY in _wrappers(transformer_options, WrappersMP.DIFFUSION_MODEL) and call.network_input is not None:
        return False
    known = architecture_of(call.model.diffusion_model)
    if not is_attention_gated or known is None or known.inline:
        return True
    return not has_stand_ins(call.model.diffusion_model)


def _is_input(x: Any, expected: Any) -> bool:
    return x is expected or (isinstance(x, Tensor) and isinstance(expected, Tensor) and is_same(x, expected))


def _wrappers(transformer_options: Options, wrapper_type: str) -> dict[str, list[Any]]:
    wrappers: dict[str, list[Any]] = transformer_options.get("wrappers", {}).get(wrapper_type, {})
    return {key: present for key, present in wrappers.items() if present}
