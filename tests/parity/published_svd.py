"""The video model in diffusers, with the published package's loader. Runs in the package's environment only."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from parity_cases import CONTEXT_DIM, LATENT_CHANNELS, PIXELS_PER_LATENT, STEPS, Case
from parity_svd import (
    AUGMENTATION_LEVEL,
    CHANNELS,
    FIRST_FRAME_CFG,
    FPS,
    FRAMES,
    HEADS,
    MOTION_BUCKET_ID,
    NAME,
    TRANSFORMER_DEPTH,
    make_video_inputs,
)
from published import draw_weights, euler, starting_latents
from tgate import TgateSVDLoader
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

# The model is made for 700, but what it does at so loud a noise is lost in it.
SIGMA_MAX = 10.0
SIGMA_MIN = 0.002


class GivenLatents(AutoencoderKLTemporalDecoder):
    """Encodes every picture as the latents it is told."""

    given: torch.Tensor

    def encode(self, _picture: torch.Tensor) -> Any:
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: self.given))


class GivenEmbedding(CLIPVisionModelWithProjection):
    """Embeds every picture as it is told."""

    given: torch.Tensor

    def forward(self, _picture: torch.Tensor) -> Any:
        return SimpleNamespace(image_embeds=self.given)


def build_unet() -> UNetSpatioTemporalConditionModel:
    """A UNet whose every weight is drawn from its name."""
    attends = [depth > 0 for depth in TRANSFORMER_DEPTH]
    unet = UNetSpatioTemporalConditionModel(
        in_channels=2 * LATENT_CHANNELS,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        down_block_types=[f"{'CrossAttn' * a}DownBlockSpatioTemporal" for a in attends],
        up_block_types=[f"{'CrossAttn' * a}UpBlockSpatioTemporal" for a in reversed(attends)],
        cross_attention_dim=CONTEXT_DIM,
        num_attention_heads=HEADS,
        num_frames=FRAMES,
    )
    return draw_weights(NAME, unet)


def build_pipeline(_model: str) -> Any:
    """A diffusers pipeline with T-GATE, around a UNet alone: the picture comes in encoded, latents come out."""
    tiny = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    pipeline = StableVideoDiffusionPipeline(
        vae=GivenLatents(block_out_channels=[32] * 4, down_block_types=["DownEncoderBlock2D"] * 4),
        image_encoder=GivenEmbedding(CLIPVisionConfig(**tiny)),
        feature_extractor=CLIPImageProcessor(),
        unet=build_unet(),
        scheduler=euler(
            prediction_type="v_prediction",
            timestep_type="continuous",
            use_karras_sigmas=True,
            sigma_max=SIGMA_MAX,
            sigma_min=SIGMA_MIN,
        ),
    )
    return TgateSVDLoader(pipeline)


def call_arguments(_model: str, case: Case, pipeline: Any) -> dict[str, Any]:
    """The pipeline call of a case, without the schedule."""
    inputs = make_video_inputs(case)
    pipeline.vae.given = torch.from_numpy(inputs.image_latents)
    pipeline.image_encoder.given = torch.from_numpy(inputs.image_embedding)
    height, width = case.height * PIXELS_PER_LATENT, case.width * PIXELS_PER_LATENT
    return {
        "image": torch.zeros(1, 3, height, width),
        "height": height,
        "width": width,
        "num_frames": FRAMES,
        "num_inference_steps": STEPS,
        "min_guidance_scale": FIRST_FRAME_CFG,
        "max_guidance_scale": case.cfg,
        "fps": FPS,
        "motion_bucket_id": MOTION_BUCKET_ID,
        "noise_aug_strength": AUGMENTATION_LEVEL,
        "latents": starting_latents(inputs.noise, pipeline.scheduler)[None],
        "output_type": "latent",
    }
