"""Putting T-GATE on a MODEL."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from comfy.patcher_extension import WrappersMP

from ..config import GateConfig
from ..presets import PresetConfig
from .families import attention_modules, family_of, is_supported
from .injection import add_skip_injection
from .keys import PATCHER_KEY, SETTINGS_KEY
from .memory import prepare_sampling_wrapper
from .patches import add_patches
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

logger = logging.getLogger(__name__)


def apply_preset(model: ModelPatcher, preset: str) -> ModelPatcher:
    """A clone of `model` gated by the preset for its family.

    Raises:
        ValueError: no such preset, or the model has no attention.
    """
    if not _is_gateable(model):
        return model.clone()
    return _install(model, PresetConfig(family_of(model), preset))  # type: ignore[arg-type]  # checked when made


def apply_config(model: ModelPatcher, config: GateConfig) -> ModelPatcher:
    """A clone of `model` gated by explicit settings.

    Raises:
        ValueError: the model has no attention.
    """
    if config.gates_nothing:
        logger.info("TGATE: both attentions are off and guidance is kept, so there is nothing to save")
        return model.clone()
    return _install(model, config) if _is_gateable(model) else model.clone()


def _is_gateable(model: ModelPatcher) -> bool:
    if not is_supported(model):
        name = type(model.model).__name__
        logger.warning("TGATE: models of the family %s are not supported yet; the model is passed on unchanged", name)
        return False
    if not attention_modules(model.get_model_object("diffusion_model")):
        raise ValueError("TGATE: model has no attention to gate; connect a text-to-image diffusion model instead.")
    return True


def _install(model: ModelPatcher, settings: GateConfig | PresetConfig) -> ModelPatcher:
    patched = model.clone()
    options = patched.model_options["transformer_options"]
    if SETTINGS_KEY in options:
        logger.info("TGATE: the model was gated already; the node nearest to the sampler wins")
    options[SETTINGS_KEY] = settings
    add_patches(patched)
    for wrapper_type, wrapper in _WRAPPERS.items():
        patched.remove_wrappers_with_key(wrapper_type, PATCHER_KEY)
        patched.add_wrapper_with_key(wrapper_type, PATCHER_KEY, wrapper)
    add_skip_injection(patched)
    return patched
