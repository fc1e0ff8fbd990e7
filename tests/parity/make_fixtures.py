"""Runs the published package `tgate==1.0.0` on small random-weight models and keeps the latents it ends with.

The package needs an environment of its own, apart from ComfyUI's:

    python3 -m venv /path/to/published
    /path/to/published/bin/pip install -r tests/parity/requirements.txt
    /path/to/published/bin/python tests/parity/make_fixtures.py

writes `fixtures/sd15.safetensors` and `fixtures/sdxl.safetensors`: per case the final latents (in the scheduler's
scale), and the scheduler's sigmas. With `--check` nothing is written: the stored files are compared with a new run,
and the exit status is 1 where one differs by more than float rounding.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.numpy import load_file, save_file
from tgate import TgateSDLoader, TgateSDXLLoader

sys.path.insert(0, str(Path(__file__).resolve().parent))

from parity_cases import CONTEXT_DIM, MODELS, POOLED_DIM, STEPS, Case, Inputs, ModelShape, cases, make_inputs, weight

FIXTURES = Path(__file__).resolve().parent / "fixtures"
PIXELS_PER_LATENT = 8
SIZE_EMBEDDING_DIM = 256
SIZE_NUMBERS = 6
ROUNDING = 1e-4  # of the latents' standard deviation; another machine's torch may sum in another order


def build_unet(shape: ModelShape) -> UNet2DConditionModel:
    """A UNet whose every weight is drawn from its name."""
    options: dict[str, Any] = {}
    if shape.pooled:
        options = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": SIZE_EMBEDDING_DIM,
            "projection_class_embeddings_input_dim": SIZE_NUMBERS * SIZE_EMBEDDING_DIM + POOLED_DIM,
        }
    attends = [depth > 0 for depth in shape.transformer_depth]
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=shape.channels,
        layers_per_block=1,
        down_block_types=["CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends],
        up_block_types=["CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)],
        transformer_layers_per_block=[max(1, depth) for depth in shape.transformer_depth],
        cross_attention_dim=CONTEXT_DIM,
        attention_head_dim=shape.heads,  # the library's historical name for the number of heads
        use_linear_projection=shape.linear_projection,
        **options,
    )
    state = unet.state_dict()
    for name, value in state.items():
        value.copy_(torch.from_numpy(weight(shape.name, name, tuple(value.shape))))
    return unet.eval()


def build_pipeline(shape: ModelShape) -> Any:
    """A diffusers pipeline with T-GATE, around a UNet alone: text comes in as embeddings, latents come out."""
    parts: dict[str, Any] = {
        # Never run: the pipelines read the pixels per latent from its number of levels.
        "vae": AutoencoderKL(
            block_out_channels=[8] * 4, norm_num_groups=8, down_block_types=["DownEncoderBlock2D"] * 4
        ),
        "text_encoder": None,
        "tokenizer": None,
        "unet": build_unet(shape),
        "scheduler": EulerDiscreteScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            timestep_spacing="leading",
            steps_offset=1,
        ),
    }
    if shape.pooled:
        parts |= {"text_encoder_2": None, "tokenizer_2": None}
        pipeline = TgateSDXLLoader(StableDiffusionXLPipeline(**parts, add_watermarker=False))
    else:
        parts |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        pipeline = TgateSDLoader(StableDiffusionPipeline(**parts))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def forget_captures(pipeline: Any) -> None:
    """The package keeps its captures on the attention modules for ever; a new run must not see them."""
    for module in pipeline.unet.modules():
        if type(module).__name__ == "Attention":
            module.cache = None


def call_arguments(shape: ModelShape, case: Case, inputs: Inputs) -> dict[str, Any]:
    """The pipeline call of a case, without the schedule and the latents."""
    guided = case.cfg > 1.0
    arguments: dict[str, Any] = {
        "prompt_embeds": torch.from_numpy(inputs.positive),
        "negative_prompt_embeds": torch.from_numpy(inputs.negative) if guided else None,
        "height": case.height * PIXELS_PER_LATENT,
        "width": case.width * PIXELS_PER_LATENT,
        "num_inference_steps": STEPS,
        "guidance_scale": case.cfg,
        "output_type": "latent",
    }
    if shape.pooled:
        arguments |= {
            "pooled_prompt_embeds": torch.from_numpy(inputs.positive_pooled),
            "negative_pooled_prompt_embeds": torch.from_numpy(inputs.negative_pooled) if guided else None,
            "original_size": inputs.positive_size,
            "target_size": inputs.target_size,
            "negative_original_size": inputs.negative_size,
            "negative_target_size": inputs.target_size,
        }
    return arguments


def run_case(pipeline: Any, shape: ModelShape, case: Case) -> np.ndarray:
    """The final latents (batch, 4, height, width) of one run of the published package, or of plain diffusers."""
    forget_captures(pipeline)
    inputs = make_inputs(shape.name, case)
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(STEPS)
    # The pipeline multiplies by the scheduler's own start, sqrt(sigma^2 + 1); the host starts at sigma.
    start = float(scheduler.sigmas[0]) / float(scheduler.init_noise_sigma)
    arguments = call_arguments(shape, case, inputs) | {"latents": torch.from_numpy(inputs.noise) * start}
    if case.schedule is None:
        with torch.no_grad():
            return pipeline(**arguments).images.numpy()
    if case.cfg <= 1.0:
        arguments["lcm"] = True
    schedule = {
        "gate_step": case.schedule.gate,
        "sp_interval": case.schedule.sp_interval,
        "fi_interval": case.schedule.fi_interval,
        "warm_up": case.schedule.warm_up,
    }
    return pipeline.tgate(**arguments, **schedule).images.numpy()


def run_model(shape: ModelShape) -> dict[str, np.ndarray]:
    """Every case of a model by name, and the sigmas they ran on."""
    # Plain runs come from a pipeline whose attention modules the package never touched.
    plain, gated = build_pipeline(shape), build_pipeline(shape)
    latents = {case.name: run_case(gated if case.schedule else plain, shape, case) for case in cases(shape.name)}
    return {"sigmas": plain.scheduler.sigmas.numpy(), **latents}


def differences(stored: dict[str, np.ndarray], new: dict[str, np.ndarray]) -> list[str]:
    """A line per tensor that is missing, left over, or not the same to float rounding."""
    lines = [f"{name}: only in one of the two" for name in sorted(stored.keys() ^ new.keys())]
    for name in sorted(stored.keys() & new.keys()):
        if stored[name].shape != new[name].shape:
            lines.append(f"{name}: shape {stored[name].shape} became {new[name].shape}")
            continue
        ratio = float(np.abs(stored[name] - new[name]).max() / new[name].std())
        if not ratio <= ROUNDING:
            lines.append(f"{name}: differs by {ratio:.2e} of the standard deviation")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the parity fixtures with the published package.")
    parser.add_argument("--check", action="store_true", help="compare with a new run, write nothing")
    check = parser.parse_args().check
    torch.manual_seed(0)
    FIXTURES.mkdir(exist_ok=True)
    failed = False
    for shape in MODELS.values():
        path = FIXTURES / f"{shape.name}.safetensors"
        tensors = run_model(shape)
        if not check:
            save_file(tensors, path)
            print(f"{path.name}: {len(tensors)} tensors, {path.stat().st_size / 1024:.0f} KiB")
            continue
        lines = differences(load_file(path), tensors)
        failed = failed or bool(lines)
        print(f"{path.name}: " + ("as stored" if not lines else "; ".join(lines)))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
