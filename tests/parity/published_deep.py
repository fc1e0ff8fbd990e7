"""DeepCache's own package on diffusers' pipelines, with T-GATE's loaders for it. Runs in their environment only."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from DeepCache import DeepCacheSDHelper
from parity_cases import STEPS
from parity_deep import HELPER_BRANCH, DeepCase
from published_unet import build_plain_pipeline, call_arguments
from tgate import TgateSDDeepCacheLoader, TgateSDXLDeepCacheLoader

LOADERS = {"sd15": TgateSDDeepCacheLoader, "sdxl": TgateSDXLDeepCacheLoader}


def run_deep_case(model: str, deep: DeepCase) -> np.ndarray:
    """The final latents (batch, 4, height, width). A pipeline for each: the packages leave traces on modules."""
    pipeline = build_plain_pipeline(model)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler.set_timesteps(STEPS)
    arguments: dict[str, Any] = call_arguments(model, deep.case, pipeline)
    settings = {"cache_interval": deep.interval, "cache_branch_id": HELPER_BRANCH[deep.branch]}
    schedule = deep.case.schedule
    if schedule is not None:
        gated = LOADERS[model](pipeline, **settings)
        return gated.tgate(
            **arguments,
            gate_step=schedule.gate,
            sp_interval=schedule.sp_interval,
            fi_interval=schedule.fi_interval,
            warm_up=schedule.warm_up,
        ).images.numpy()
    helper = DeepCacheSDHelper(pipe=pipeline)
    helper.set_params(**settings)
    helper.enable()
    with torch.no_grad():
        return pipeline(**arguments).images.numpy()
