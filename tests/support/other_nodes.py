"""The nodes that T-GATE has to live with: the host's own and test-only ones, and what to expect of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import foreign_nodes
import tiny
import torch
from host_nodes import (
    LORA,
    NodeFunction,
    gpu_options,
    host_node,
    lora_from_file,
    lora_in_memory,
    merge_node,
    noise_scale,
    with_files,
)


@dataclass(frozen=True)
class OtherNode:
    """One node beside T-GATE.

    Attributes:
        name: what the test is called.
        apply: puts the node on a model; a clone comes back.
        run: sampling options that the node needs to have an effect.
        settings: T-GATE settings that make the outcome comparable, for the reason given where they are set.
        kept_in: guidance modes in which the node evaluates the branch that would be dropped, so that guidance stays.
        not_frozen_in: guidance modes for which the reference is no oracle, for the reason given there.
        auxiliary: evaluations a step that the node makes on its own.
        is_inert: whether the node does nothing on this model.
        needs_levels: whether the node wants a model with two levels.
    """

    name: str
    apply: NodeFunction
    run: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    kept_in: frozenset[str] = frozenset()
    not_frozen_in: frozenset[str] = frozenset()
    auxiliary: int = 0
    is_inert: bool = False
    needs_levels: bool = False


WHOLE = {"start_percent": 0.0, "end_percent": 1.0}
ALL_LAYERS = {"double_layers": "0, 1, 2", "single_layers": "0, 1, 2"}
WINDOWS = {"context_length": 4, "context_overlap": 2, "context_stride": 1, "closed_loop": False, "dim": 0}
SHRINK = {"downscale_after_skip": True, "downscale_method": "bicubic", "upscale_method": "bicubic"}
GRADIENT_MASK = torch.linspace(0, 1, 64).reshape(1, 1, 8, 8)
# Reusing self-attention changes what the node draws from the global generator, or what it keeps aside in it.
CROSS_ONLY = {"self_attention": False}
UNCOND, DELTA = frozenset({"uncond"}), frozenset({"cached_delta"})

ATTENTION_NODES = [
    OtherNode(
        "HyperTile",
        host_node("nodes_hypertile", "HyperTile", tile_size=32, swap_size=1, max_depth=1, scale_depth=True),
        needs_levels=True,
    ),
    OtherNode(
        "HyperTile swapping at random",
        host_node("nodes_hypertile", "HyperTile", tile_size=32, swap_size=2, max_depth=0, scale_depth=False),
        run={"latent": torch.zeros(1, 4, 16, 16)},
        settings=CROSS_ONLY,
    ),
    OtherNode("ToMe", host_node("nodes_tomesd", "TomePatchModel", ratio=0.5), settings=CROSS_ONLY, needs_levels=True),
    # NAG lets the uncond chunk of a call change the cond chunk; where cond runs alone, NAG stands aside.
    OtherNode(
        "NAG", host_node("nodes_nag", "NAGuidance", nag_scale=5.0, nag_alpha=0.5, nag_tau=1.5), not_frozen_in=DELTA
    ),
    OtherNode(
        "Hypernetwork",
        with_files(
            host_node(
                "nodes_hypernetwork", "HypernetworkLoader", hypernetwork_name="tiny_hypernetwork.pt", strength=1.0
            )
        ),
    ),
    OtherNode(
        "image prompts by attn2 replacement", lambda model: foreign_nodes.image_prompts(model)[0], needs_levels=True
    ),
    OtherNode("attn1 pair with state between", foreign_nodes.shrinking_pair, needs_levels=True),
    OtherNode("output patches that write in place", foreign_nodes.in_place_output_patch),
    OtherNode("attention override", foreign_nodes.attention_override),
    OtherNode("object patch on forward", foreign_nodes.forward_object_patch),
    OtherNode("injection on forward", foreign_nodes.forward_injection),
]
UNET_NODES = [
    OtherNode("FreeU", host_node("nodes_freelunch", "FreeU", b1=1.1, b2=1.2, s1=0.9, s2=0.2), needs_levels=True),
    OtherNode("FreeU V2", host_node("nodes_freelunch", "FreeU_V2", b1=1.3, b2=1.4, s1=0.9, s2=0.2), needs_levels=True),
    OtherNode(
        "Deep Shrink throughout",
        host_node(
            "nodes_model_downscale", "PatchModelAddDownscale", block_number=1, downscale_factor=2.0, **SHRINK, **WHOLE
        ),
        needs_levels=True,
    ),
    OtherNode("unet wrapper", foreign_nodes.unet_wrapper),
]
GUIDANCE_NODES = [
    OtherNode("RescaleCFG", host_node("nodes_model_advanced", "RescaleCFG", multiplier=0.7)),
    OtherNode("CFGNorm", host_node("nodes_cfg", "CFGNorm", strength=0.9)),
    OtherNode("CFGNorm before cfg", host_node("nodes_cfg", "CFGNorm", strength=0.9, pre_cfg=True)),
    OtherNode("RenormCFG", host_node("nodes_lumina2", "RenormCFG", cfg_trunc=100, renorm_cfg=0.8)),
    OtherNode("CFGZeroStar", host_node("nodes_cfg", "CFGZeroStar")),
    OtherNode("MahiroCFG", host_node("nodes_mahiro", "Mahiro")),
    OtherNode("TCFG", host_node("nodes_tcfg", "TCFG")),
    OtherNode("APG", host_node("nodes_apg", "APG", eta=0.5, norm_threshold=5.0, momentum=-0.5)),
    OtherNode("Epsilon Scaling", host_node("nodes_eps", "EpsilonScaling", scaling_factor=1.05)),
    OtherNode("FreSca", host_node("nodes_fresca", "FreSca", scale_low=1.0, scale_high=1.5, freq_cutoff=2)),
    OtherNode(
        "VideoLinearCFG",
        host_node("nodes_video_model", "VideoLinearCFGGuidance", min_cfg=1.0),
        run={"latent": torch.zeros(2, 4, 8, 8)},
    ),
    OtherNode(
        "VideoTriangleCFG",
        host_node("nodes_video_model", "VideoTriangleCFGGuidance", min_cfg=1.0),
        run={"latent": torch.zeros(3, 4, 8, 8)},
    ),
    OtherNode("CFGOverride", host_node("nodes_custom_sampler", "CFGOverride", cfg=3.0, **WHOLE)),
    OtherNode("cfg function", foreign_nodes.cfg_function),
    OtherNode("pre-cfg function", foreign_nodes.pre_cfg_function),
    OtherNode("post-cfg function", foreign_nodes.post_cfg_function),
    OtherNode("calc_cond_batch function", foreign_nodes.calc_cond_batch_function),
]
AUXILIARY_NODES = [
    OtherNode("PAG", host_node("nodes_pag", "PerturbedAttentionGuidance", scale=2.0), kept_in=UNCOND, auxiliary=1),
    # SAG reads the scores of an attention that it replaces: those of the last time it was computed.
    OtherNode(
        "SAG",
        host_node("nodes_sag", "SelfAttentionGuidance", scale=0.5, blur_sigma=2.0),
        settings=CROSS_ONLY,
        kept_in=DELTA,
        auxiliary=1,
    ),
    OtherNode(
        "SLG",
        host_node("nodes_slg", "SkipLayerGuidanceDiT", scale=2.0, rescaling_scale=0.0, **ALL_LAYERS, **WHOLE),
        kept_in=UNCOND,
        auxiliary=1,
        is_inert=True,
    ),
    OtherNode(
        "SLG SD3",
        host_node("nodes_sd3", "SkipLayerGuidanceSD3", layers="0, 1", scale=2.0, **WHOLE),
        kept_in=UNCOND,
        auxiliary=1,
        is_inert=True,
    ),
    OtherNode(
        "PerpNeg",
        host_node("nodes_perpneg", "PerpNeg", empty_conditioning=tiny.text(5), neg_scale=1.0),
        kept_in=UNCOND | DELTA,
        auxiliary=1,
    ),
]


def _sampling(label: str, name: str, **inputs: Any) -> OtherNode:
    return OtherNode(label, host_node("nodes_model_advanced", name, **inputs))


MODEL_NODES = [
    OtherNode(
        "DifferentialDiffusion",
        host_node("nodes_differential_diffusion", "DifferentialDiffusion", strength=1.0),
        run={"denoise_mask": GRADIENT_MASK, "latent": tiny.noise(9)},
    ),
    _sampling("ModelSamplingDiscrete v", "ModelSamplingDiscrete", sampling="v_prediction", zsnr=False),
    _sampling("ModelSamplingDiscrete lcm", "ModelSamplingDiscrete", sampling="lcm", zsnr=False),
    _sampling("ModelSamplingDiscrete x0", "ModelSamplingDiscrete", sampling="x0", zsnr=False),
    _sampling("ModelSamplingDiscrete zsnr", "ModelSamplingDiscrete", sampling="v_prediction", zsnr=True),
    _sampling("ModelSamplingEDM", "ModelSamplingContinuousEDM", sampling="edm", sigma_max=80.0, sigma_min=0.002),
    _sampling(
        "ModelSamplingEDM playground",
        "ModelSamplingContinuousEDM",
        sampling="edm_playground_v2.5",
        sigma_max=80.0,
        sigma_min=0.002,
    ),
    _sampling("ModelSamplingV", "ModelSamplingContinuousV", sampling="v_prediction", sigma_max=500.0, sigma_min=0.03),
    _sampling("ModelSamplingSD3", "ModelSamplingSD3", shift=3.0),
    _sampling("ModelSamplingFlux", "ModelSamplingFlux", max_shift=1.15, base_shift=0.5, width=512, height=512),
    _sampling("ModelComputeDtype", "ModelComputeDtype", dtype="bf16"),
    OtherNode("ModelNoiseScale", noise_scale),
    OtherNode("ModelMergeSimple", merge_node("ModelMergeSimple", ratio=0.6)),
    OtherNode("ModelMergeBlocks", merge_node("ModelMergeBlocks", input=0.3, middle=0.5, out=0.8)),
    OtherNode("ModelAdd", merge_node("ModelAdd")),
    OtherNode("ModelSubtract", merge_node("ModelSubtract", multiplier=0.2)),
    OtherNode("LoRA", lora_in_memory),
    OtherNode("LoraLoaderModelOnly", with_files(lora_from_file)),
    OtherNode("LoraLoaderBypass", with_files(host_node("nodes_lora_debug", "LoraLoaderBypassModelOnly", **LORA))),
    OtherNode(
        "UNetSelfAttentionMultiply",
        host_node("nodes_attention_multiply", "UNetSelfAttentionMultiply", q=1.2, k=1.0, v=0.9, out=1.0),
    ),
    OtherNode(
        "UNetCrossAttentionMultiply",
        host_node("nodes_attention_multiply", "UNetCrossAttentionMultiply", q=1.2, k=1.0, v=0.9, out=1.0),
    ),
    # Windows of frames that know nothing of each other give the whole's result; shuffled noise gives another.
    OtherNode(
        "ContextWindows",
        host_node(
            "nodes_context_windows",
            "ContextWindowsManualNode",
            context_schedule="standard_static",
            fuse_method="pyramid",
            freenoise=True,
            **WINDOWS,
        ),
        run={"latent": torch.zeros(6, 4, 8, 8)},
    ),
    OtherNode("SelectModelDevice", host_node("nodes_multigpu", "SelectModelDeviceNode", device="cpu"), is_inert=True),
    OtherNode("MultiGPU CFG Split", host_node("nodes_multigpu", "MultiGPUCFGSplitNode", max_gpus=2), is_inert=True),
    OtherNode("MultiGPU Options", gpu_options, is_inert=True),
]
ALL_NODES = [*ATTENTION_NODES, *UNET_NODES, *GUIDANCE_NODES, *AUXILIARY_NODES, *MODEL_NODES]
