"""Putting techniques on a MODEL, as the nodes ask for it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfy.patcher_extension import WrappersMP

from ..deepcache.schedule import DeepCacheConfig
from ..deepcache.technique import DeepCache
from ..engine.technique import Technique
from ..forecast.schedule import ForecastConfig
from ..forecast.technique import Forecast
from ..gate.config import GateConfig
from ..gate.technique import Gate
from ..presets import PUBLISHED, Preset, PresetConfig
from ..probe.profile import Probe
from ..probe.technique import Probing
from ..report.record import Listener, RunRecords
from .architectures import UNET, is_of_host
from .attention import add_patches
from .forwards import add_skip_injection
from .keys import PATCHER_KEY, RECORDS_KEY, TECHNIQUES_KEY
from .memory import prepare_sampling_wrapper
from .networks import architecture, attention_modules, family_of, network_class, scope_of, why_not_gated
from .run_start import DEEP_CACHE, FORECAST, GATE, PROBE
from .unet_blocks import can_leave_out_layers, deep_branches
from .wrappers import apply_model_wrapper, calc_cond_batch_wrapper, outer_sample_wrapper, predict_noise_wrapper

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

_WRAPPERS = {
    WrappersMP.OUTER_SAMPLE: outer_sample_wrapper,
    WrappersMP.PREPARE_SAMPLING: prepare_sampling_wrapper,
    WrappersMP.PREDICT_NOISE: predict_noise_wrapper,
    WrappersMP.CALC_COND_BATCH: calc_cond_batch_wrapper,
    WrappersMP.APPLY_MODEL: apply_model_wrapper,
}
NOTHING_TO_SAVE = "both attentions are off and guidance is kept, so there is nothing to save"
ONLY_GUIDANCE = "only guidance can be dropped"
REUSED_AND_GUIDANCE = "it can be reused, and guidance can be dropped"
# The uncond branch alone has seen the prompt only through frozen cross-attention.
NEEDS_COND = (
    f"{ONLY_GUIDANCE}, by a preset of TGATE Apply, or in TGATE Apply (Advanced) with guidance set to cached_delta or "
    "cond and gate_unit to anything but measured"
)
NOT_AS_PUBLISHED = (
    "TGATE: preset is 'as published', and the paper's method freezes cross-attention, which this model does not let us "
    "do ({reason}); choose another preset, which leaves attention alone."
)
UNCHANGED = "the model is passed on unchanged"
EXPERIMENTAL = "experimental: nobody has published settings for this model"
NEAREST_WINS = "the model was gated already; the node nearest to the sampler wins"
NO_PROBE = "TGATE: gate_unit is 'measured'; connect a probe, or choose another gate_unit."
LIVE_PROBE = (
    "TGATE: a probe straight from TGATE Probe may hold the run before, or none; take it from TGATE Convergence Plot, "
    "which waits for the run that measures, or load one with TGATE Load Probe."
)
PROBE_UNUSED = "the probe is not used: set gate_unit to 'measured'"
NOTHING_TO_MEASURE = f"there is no attention that T-GATE could measure; {UNCHANGED}"
PROBED_ALREADY_CHANGED = "the probe measures runs that no node of TGATE changes: connect it to the loader's model"
DEEP_CACHE_OFF = "DeepCache is off: cache_interval is 1, or start is not below end"
NO_DEEP_BLOCKS = f"DeepCache is for UNets (SD 1.5, SD 2, SDXL, SVD); {UNCHANGED}"
HOST_TOO_OLD = f"DeepCache needs a newer ComfyUI (0.20 will do); {UNCHANGED}"
FORECAST_OFF = "Forecast is off: start is not below end"
NEAREST_FORECAST_WINS = "the model had Forecast already; the node nearest to the sampler wins"
NEAREST_DEEP_CACHE_WINS = "the model had DeepCache already; the node nearest to the sampler wins"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Applied:
    """What a node made of its model.

    Attributes:
        model: a clone, gated or not.
        remark: what the user should know about it, if anything.
    """

    model: ModelPatcher
    remark: str | None = None


def apply_preset(model: ModelPatcher, preset: str, listener: Listener | None = None) -> Applied:
    """A clone of `model` gated by the preset for its family.

    Args:
        model: the user's model.
        preset: name of the preset.
        listener: told of each sampling run of the clone once it is over.

    Raises:
        ValueError: no such preset, or one that the model cannot follow, or the model has no attention.
    """
    settings = PresetConfig(family_of(model), preset)  # type: ignore[arg-type]  # checked when made
    if _has_cross_attention(model):
        return _install(model, settings, listener, EXPERIMENTAL if settings.is_experimental else None)
    if settings.preset == PUBLISHED:
        raise ValueError(NOT_AS_PUBLISHED.format(reason=why_not_gated(model)))
    return _install(model, settings, listener, f"{why_not_gated(model)}; {_what_is_left(model)}")


def apply_config(
    model: ModelPatcher, config: GateConfig, listener: Listener | None = None, probe: Probe | None = None
) -> Applied:
    """A clone of `model` gated by explicit settings.

    Args:
        model: the user's model.
        config: the settings.
        listener: told of each sampling run of the clone once it is over.
        probe: what was measured, for gates that follow from it.

    Raises:
        ValueError: the model has no attention, or gate_unit is "measured" without a probe that is sure to be measured.
    """
    if config.gate_unit == "measured":
        if probe is None:
            raise ValueError(NO_PROBE)
        if probe.is_live:
            raise ValueError(LIVE_PROBE)
    if config.gates_nothing:
        return _remarked(Applied(model.clone(), NOTHING_TO_SAVE))
    if _has_cross_attention(model):
        remark = PROBE_UNUSED if probe is not None and config.gate_unit != "measured" else None
        return _install(model, config, listener, remark, probe)
    left = config.within(scope_of(model))
    if left is not None:
        return _install(model, left, listener, f"{why_not_gated(model)}; {_what_is_left(model)}")
    return _remarked(Applied(model.clone(), f"{why_not_gated(model)}; {NEEDS_COND}; {UNCHANGED}"))


def apply_deep_cache(model: ModelPatcher, config: DeepCacheConfig) -> Applied:
    """A clone of `model` that runs its deep blocks on some steps alone, gated or not."""
    if config.is_off:
        return _remarked(Applied(model.clone(), DEEP_CACHE_OFF))
    branches = deep_branches(model.get_model_object("diffusion_model")) if architecture(model) is UNET else 0
    if not branches:
        is_known = is_of_host(network_class(model))
        return _remarked(Applied(model.clone(), NO_DEEP_BLOCKS if is_known else f"{why_not_gated(model)}; {UNCHANGED}"))
    if not can_leave_out_layers():
        return _remarked(Applied(model.clone(), HOST_TOO_OLD))
    remarks = [NEAREST_DEEP_CACHE_WINS] if DEEP_CACHE in _techniques(model) else []
    if config.cache_branch_id >= branches:
        remarks.append(f"cache_branch_id is {config.cache_branch_id}; this model's deepest, {branches - 1}, is used")
    patched = add_technique(model, DEEP_CACHE, DeepCache(config), gates_attention=False)
    return _remarked(Applied(patched, "; ".join(remarks) or None))


def apply_forecast(model: ModelPatcher, config: ForecastConfig) -> Applied:
    """A clone of `model` that predicts whole steps from those before them, gated or not."""
    if config.is_off:
        return _remarked(Applied(model.clone(), FORECAST_OFF))
    remark = NEAREST_FORECAST_WINS if FORECAST in _techniques(model) else None
    return _remarked(Applied(add_technique(model, FORECAST, Forecast(config), gates_attention=False), remark))


def _has_cross_attention(model: ModelPatcher) -> bool:
    """Whether the model has attentions that T-GATE can gate, rather than text and picture in one."""
    if scope_of(model) != "all":
        return False
    if not attention_modules(model.get_model_object("diffusion_model"), architecture(model)):
        raise ValueError("TGATE: model has no attention to gate; connect a text-to-image diffusion model instead.")
    return True


def apply_probe(model: ModelPatcher, probe: Probe) -> Applied:
    """A clone of `model` whose runs are measured: once one is done, `probe` holds what was seen in it."""
    if not _has_cross_attention(model) and scope_of(model) == "guidance alone":
        return _remarked(Applied(model.clone(), f"{why_not_gated(model)}; {NOTHING_TO_MEASURE}"))
    is_changed = bool(_techniques(model).keys() & {GATE, FORECAST, DEEP_CACHE})
    patched = add_technique(model, PROBE, Probing(probe))
    return _remarked(Applied(patched, PROBED_ALREADY_CHANGED if is_changed else None))


def records_of(model: ModelPatcher) -> RunRecords | None:
    """The runs of a model; None for one without a node of ours."""
    records: RunRecords | None = model.get_attachment(RECORDS_KEY)
    return records


def why_not(model: ModelPatcher) -> str | None:
    """Why T-GATE passes a model on; None where it gates it."""
    return None if _has_cross_attention(model) else f"{why_not_gated(model)}; {NEEDS_COND}"


def _install(
    model: ModelPatcher,
    settings: GateConfig | PresetConfig,
    listener: Listener | None,
    remark: str | None = None,
    probe: Probe | None = None,
) -> Applied:
    if GATE in _techniques(model):
        remark = NEAREST_WINS if remark is None else f"{NEAREST_WINS}; {remark}"
    patched = add_technique(
        model, GATE, Preset(settings) if isinstance(settings, PresetConfig) else Gate(settings, probe)
    )
    patched.set_attachments(RECORDS_KEY, RunRecords(_told_family(model), listener))
    return _remarked(Applied(patched, remark))


def add_technique(
    model: ModelPatcher, name: str, technique: Technique | Preset, gates_attention: bool = True
) -> ModelPatcher:
    """A clone of `model` with a technique on it, in place of one of the same name.

    Args:
        model: the user's model.
        name: of the technique, see `PRECEDENCE`.
        technique: as a node has set it up.
        gates_attention: whether it has a say in single attentions.
    """
    patched = model.clone()
    patched.model_options["transformer_options"][TECHNIQUES_KEY] = {**_techniques(model), name: technique}
    if records_of(patched) is None:
        patched.set_attachments(RECORDS_KEY, RunRecords(_told_family(model)))
    if gates_attention and architecture(patched) is UNET:
        add_patches(patched)
    _add_wrappers(patched)
    if gates_attention:
        add_skip_injection(patched)
    return patched


def _what_is_left(model: ModelPatcher) -> str:
    return ONLY_GUIDANCE if scope_of(model) == "guidance alone" else REUSED_AND_GUIDANCE


def _told_family(model: ModelPatcher) -> str:
    """What the editor is told: by it the strip shows what the next run will do."""
    scope = scope_of(model)
    return family_of(model) if scope == "all" else scope


def _techniques(model: ModelPatcher) -> dict[str, Technique | Preset]:
    present: dict[str, Technique | Preset] = model.model_options["transformer_options"].get(TECHNIQUES_KEY, {})
    return present


def _add_wrappers(patched: ModelPatcher) -> None:
    for wrapper_type, wrapper in _WRAPPERS.items():
        patched.remove_wrappers_with_key(wrapper_type, PATCHER_KEY)
        patched.add_wrapper_with_key(wrapper_type, PATCHER_KEY, wrapper)


def _remarked(applied: Applied) -> Applied:
    if applied.remark is not None:
        logger.info("TGATE: %s", applied.remark)
    return applied
