"""Tiny random-weight models of the host's other classes that share the UNet, and the small parts they need."""

from __future__ import annotations

from typing import Any

import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import comfy.taesd.taesd
import tiny
import torch

CPU = torch.device("cpu")
ONE_LEVEL: dict[str, Any] = {
    "num_res_blocks": [1],
    "channel_mult": [1],
    "transformer_depth": [1],
    "transformer_depth_output": [0, 0],
    "transformer_depth_middle": 1,
}
ATTENTIONS = 2  # of each kind in a model of ONE_LEVEL


def build(config: Any, seed: int = 0) -> comfy.model_patcher.ModelPatcher:
    """The model that the host makes of a model configuration, with random weights."""
    torch.manual_seed(seed)
    base = config.get_model({}, device=CPU)
    tiny.randomise(base.diffusion_model, seed)
    return comfy.model_patcher.ModelPatcher(base, CPU, CPU)


def give_frequencies(network: torch.nn.Module) -> None:
    """Values for the frequencies of Stable Audio's positions, which come with a checkpoint."""
    for name, buffer in network.named_buffers():
        if name.endswith("inv_freq"):
            buffer.copy_(torch.linspace(1.0, 0.01, len(buffer)))


def one_level(config_class: Any = comfy.supported_models.SD15, seed: int = 0, **changes: Any) -> Any:
    """A model of one level with two transformer blocks: half the work of `tiny.sd15()`."""
    return build(config_class({**tiny.SD15_UNET, **ONE_LEVEL, **changes}), seed)


def casting(dtype: torch.dtype) -> comfy.model_patcher.ModelPatcher:
    """fp32 weights that are cast to `dtype` as they are used: what the host calls manual cast."""
    config = comfy.supported_models.SD15({**tiny.SD15_UNET, **ONE_LEVEL})
    config.set_inference_dtype(torch.float32, dtype)
    return build(config)


def weights_in(dtype: torch.dtype) -> comfy.model_patcher.ModelPatcher:
    """A model whose weights are kept, and computed with, in `dtype`."""
    model = one_level(dtype=dtype)
    model.model.diffusion_model.to(dtype)
    return model


def inpaint() -> comfy.model_patcher.ModelPatcher:
    """Nine input channels: latent, mask, masked latent."""
    return one_level(in_channels=9)


def instruct_pix2pix() -> comfy.model_patcher.ModelPatcher:
    """Eight input channels: latent, latent of the picture to edit."""
    return one_level(comfy.supported_models.SD15_instructpix2pix, in_channels=8)


def upscaler() -> comfy.model_patcher.ModelPatcher:
    """SD x4 upscaler: low-resolution picture concatenated, its noise level as class label.

    Of four levels only the last, and the middle, have self-attention; the others give the text to `attn1` as well.
    """
    changes = {
        "in_channels": 7,
        "num_res_blocks": [1] * 4,
        "channel_mult": [1] * 4,
        "transformer_depth": [0, 1, 1, 1],
        "transformer_depth_output": [0, 0, 1, 0, 1, 0, 1, 0],
        "use_linear_in_transformer": True,
    }
    return one_level(comfy.supported_models.SD_X4Upscaler, **changes)


def unclip(embedding: int = 16) -> comfy.model_patcher.ModelPatcher:
    """SD 2.1 unCLIP with picture embeddings of width `embedding`."""
    config = comfy.supported_models.SD21UnclipL(
        {
            **tiny.SD15_UNET,
            **ONE_LEVEL,
            "use_linear_in_transformer": True,
            "model_channels": 64,  # with 32 every channel is a group of its own, and no embedding survives the norm
            "num_classes": "sequential",
            "adm_in_channels": 2 * embedding,
        }
    )
    config.noise_aug_config = {**config.noise_aug_config, "timestep_dim": embedding}
    config.unet_config["num_head_channels"] = 32  # the host's 64 would leave no head here
    return build(config)


def svd() -> comfy.model_patcher.ModelPatcher:
    """Stable Video Diffusion: the batch dimension of the latent holds the frames."""
    config = comfy.supported_models.SVD_img2vid(
        {
            **tiny.SD15_UNET,
            **ONE_LEVEL,
            "in_channels": 8,
            "model_channels": 64,
            "num_classes": "sequential",
            "adm_in_channels": 768,
            "use_linear_in_transformer": True,
            "use_temporal_attention": True,
            "use_temporal_resblock": True,
            "video_kernel_size": [3, 1, 1],
            "extra_ff_mix_layer": True,
            "merge_strategy": "learned_with_images",
        }
    )
    return build(config)


def autoencoder() -> comfy.sd.VAE:
    """A VAE of the host's smallest kind (TAESD), with random weights."""
    weights = comfy.taesd.taesd.TAESD()
    tiny.randomise(weights.taesd_encoder, 5)
    tiny.randomise(weights.taesd_decoder, 6)
    return comfy.sd.VAE(sd=weights.state_dict(), device=CPU)


def picture(height: int = 64, width: int = 64, seed: int = 0) -> torch.Tensor:
    """An IMAGE, (1, H, W, 3), of noise."""
    return torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(3000 + seed))
