"""What else one does with T-GATE, a graph each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .note import RUN, Note, Run
from .workflow import GATE, INPUT, SEED, UNDER_NOTE, File, Link, Workflow

EVEN_RUN: Run = (20, 7.0, "dpmpp_2m", "normal")
EULER_RUN: Run = (25, 7.0, "euler", "normal")
BY_SCHEDULE: dict[str, Any] = {"gate_unit": "percent of schedule", "warm_up": 0}
SD15 = File("Comfy-Org/stable-diffusion-v1-5-archive:v1-5-pruned-emaonly-fp16", "Any other SD 1.5 model will do.")
SDXL = File("stabilityai/stable-diffusion-xl-base-1.0:sd_xl_base_1.0", "Any other SDXL model will do.")
FOX = "a red fox trots through fresh snow between fir trees, morning light, the camera follows from the side"
STILL = "overexposed, static, blurred details, subtitles, low quality, deformed, still picture"
LTX_2 = File("Lightricks/LTX-2:ltx-2-19b-dev-fp8")
GEMMA = File("Comfy-Org/ltx-2:split_files/text_encoders/gemma_3_12B_it_fp4_mixed")
LTX_2_RUN: Run = (20, 4.0, "euler_ancestral", "")
_WAN_22 = "Comfy-Org/Wan_2.2_ComfyUI_Repackaged:split_files"
WAN_22 = {
    "Expert for much noise": File(f"{_WAN_22}/diffusion_models/wan2.2_t2v_high_noise_14B_fp8_scaled"),
    "Expert for little noise": File(f"{_WAN_22}/diffusion_models/wan2.2_t2v_low_noise_14B_fp8_scaled"),
}
WAN_VAE = File(f"{_WAN_22}/vae/wan_2.1_vae")
UMT5 = File("Comfy-Org/Wan_2.1_ComfyUI_repackaged:split_files/text_encoders/umt5_xxl_fp8_e4m3fn_scaled")
WAN_SIZE = {"width": 832, "height": 480, "length": 81}
WAN_RUN: dict[str, Any] = {"noise_seed": SEED, "steps": 20, "cfg": 3.5, "sampler_name": "euler", "scheduler": "simple"}
# The first leaves the noise that the second goes on with.
WAN_STEPS: dict[str, dict[str, Any]] = {
    "Expert for much noise": {"end_at_step": 10, "add_noise": "enable", "return_with_leftover_noise": "enable"},
    "Expert for little noise": {"start_at_step": 10, "add_noise": "disable", "return_with_leftover_noise": "disable"},
}
_QWEN = "Comfy-Org/Qwen-Image"
QWEN_EDIT = File(f"{_QWEN}-Edit_ComfyUI:split_files/diffusion_models/qwen_image_edit_2511_bf16")
QWEN_VAE = File(f"{_QWEN}_ComfyUI:split_files/vae/qwen_image_vae")
QWEN_TEXT = File("Comfy-Org/HunyuanVideo_1.5_repackaged:split_files/text_encoders/qwen_2.5_vl_7b_fp8_scaled")
QWEN_EDIT_RUN: Run = (40, 4.0, "euler", "simple")
HUNYUAN3D = File("Comfy-Org/hunyuan3D_2.1_repackaged:hunyuan_3d_v2.1")
HUNYUAN3D_RUN: Run = (30, 5.0, "euler", "normal")
# Of nodes that draw on themselves.
REPORT_HEIGHT, PLOT_HEIGHT = 430, 600  # at which their pictures are as wide as the nodes
COMPARED_HEIGHT = 370  # two square pictures beside each other
CANNY = File("comfyanonymous/ControlNet-v1-1_fp16_safetensors:control_v11p_sd15_canny_fp16")


def compare(w: Workflow) -> None:
    """The same seed without and with TGATE, side by side; the node has the seconds of both."""
    w.checkpoint(SD15)
    model = w.last["MODEL"]
    seed = w.group("Seed", UNDER_NOTE, INPUT).node("PrimitiveInt", "Seed", value=SEED)
    w.gate(column=2)
    w.prompts()
    latent = w.picture_size(512, 512, column=2)
    w.group("Without and with TGATE", 3)
    plain = w.sampler(RUN, "Sampler without TGATE", model=model, seed=seed)
    gated = w.sampler(RUN, "Sampler with TGATE", latent_image=latent, seed=seed)
    w.group("Side by side", 3)
    pictures = [w.node("VAEDecode", samples=samples) for samples in (plain, gated)]
    w.node("ImageStitch", image1=pictures[0], image2=pictures[1], spacing_width=8)
    both = "Left without, right with TGATE"
    w.group(both, 4).node("SaveImage", both, COMPARED_HEIGHT, filename_prefix="TGATE/compare")
    w.group("What was saved", 4).node("TGATEReport", "", REPORT_HEIGHT, latent=gated)


def deepcache_sdxl(w: Workflow) -> None:
    """SDXL with DeepCache and T-GATE."""
    w.checkpoint(SDXL)
    w.prompts()
    w.picture_size(1024, 1024, column=2)
    w.group("T-GATE", 3, GATE).node("TGATEDeepCache")
    _advanced(w, gate=13.0, warm_up=0)
    _sample(w, "deepcache_sdxl")


def forecast_sdxl(w: Workflow) -> None:
    """SDXL with predicted steps and refreshed guidance."""
    w.checkpoint(SDXL)
    w.prompts()
    w.picture_size(1024, 1024, column=2)
    w.group("T-GATE", 3, GATE).node("TGATEForecast", strength=3, end=0.95)
    _advanced(w, gate=3.0, warm_up=0, self_attention=False, refresh="growing gaps")
    _sample(w, "forecast_sdxl", EULER_RUN)


def img2img(w: Workflow) -> None:
    """A picture from a picture."""
    w.checkpoint(SD15)
    w.start_picture()
    w.prompts()
    w.group("Picture size", 2, INPUT)
    w.node("ImageScaleToTotalPixels", "Size", upscale_method="lanczos", megapixels=0.3)
    _advanced(w.group("T-GATE", 3, GATE), gate=0.55, **BY_SCHEDULE)
    w.group("Picture as a latent", 3, INPUT).node("VAEEncode")
    _sample(w, "img2img", EVEN_RUN, denoise=0.6)


def hires(w: Workflow) -> None:
    """Two passes: a small picture, then a larger one from it."""
    w.checkpoint(SD15)
    w.prompts()
    w.picture_size(512, 512, column=2)
    _advanced(w.group("T-GATE", 3, GATE), gate=0.4, **BY_SCHEDULE)
    first = w.group("First pass", 4).sampler(EVEN_RUN)
    w.group("Upscaling", 5).node("LatentUpscaleBy", upscale_method="bislerp", scale_by=1.5)
    w.group("First picture", 5).node("VAEDecode", samples=first)
    w.node("PreviewImage")
    w.group("Second pass", 6).sampler(EVEN_RUN, denoise=0.55)
    w.picture("hires", 7)


def controlnet(w: Workflow) -> None:
    """Guided by the edges of a picture."""
    w.checkpoint(SD15)
    w.node("ControlNetLoader", control_net_name=CANNY)
    w.start_picture()
    w.prompts()
    w.group("Edges", 2, INPUT).node("Canny", low_threshold=0.2, high_threshold=0.5)
    w.gate()
    w.last.update(w.group("Guidance by edges", 3, INPUT).node("ControlNetApplyAdvanced", strength=0.8))
    w.picture_size(512, 512)
    _sample(w, "controlnet")


def regional(w: Workflow) -> None:
    """One prompt for the whole picture, one for each half."""
    w.checkpoint(SD15)
    w.picture_size(768, 512, column=1)
    w.group("Prompts", 2, INPUT)
    whole = w.node("CLIPTextEncode", "Whole picture", 110, text="a coast at dusk, detailed oil painting")
    left = w.node("CLIPTextEncode", "Left", 110, text="a lighthouse on a rock, warm light in the windows")
    right = w.node("CLIPTextEncode", "Right", 110, text="a sailing ship on a calm sea")
    w.negative()
    w.group("Areas", 3, INPUT)
    area = {"width": 384, "height": 512, "y": 0, "strength": 1.0}
    left = w.node("ConditioningSetArea", "Left half", conditioning=left, x=0, **area)
    right = w.node("ConditioningSetArea", "Right half", conditioning=right, x=384, **area)
    w.group("Both halves", 4, INPUT)
    halves = w.node("ConditioningCombine", conditioning_1=left, conditioning_2=right)
    w.gate(column=5)
    w.group("All prompts", 5, INPUT)
    w.last["positive"] = w.node("ConditioningCombine", conditioning_1=whole, conditioning_2=halves)
    _sample(w, "regional", column=6)


def probe(w: Workflow) -> None:
    """A run that is measured, and one that is gated where the first settled."""
    w.checkpoint(SD15)
    model = w.last["MODEL"]
    w.prompts()
    latent = w.picture_size(512, 512, column=2)
    w.group("T-GATE", 3, GATE).node("TGATEProbe")
    measured = w.group("Measured run", 4).sampler(RUN, "Sampler without TGATE")
    w.group("Measurement", 5)
    plot = w.node("TGATEConvergencePlot", "", PLOT_HEIGHT, tolerance=10.0, latent=measured)
    w.node("PreviewAny", "Recommendation", source=plot["text"])
    w.node("TGATESaveProbe")
    w.group("T-GATE", 6, GATE)
    _advanced(w, gate=10.0, gate_unit="measured", model=model, probe=plot["probe"])
    gated = w.group("Gated run", 7).sampler(latent_image=latent)
    w.group("Report", 8).node("TGATEReport", "", REPORT_HEIGHT, latent=gated)
    w.picture("probe", 9, samples=gated)


def ltx2(w: Workflow) -> None:
    """A video with sound: two latents that are sampled as one."""
    w.checkpoint(LTX_2)
    vae = w.last["VAE"]
    w.node("LTXAVTextEncoderLoader", text_encoder=GEMMA, ckpt_name=LTX_2.name)
    sound_vae = w.node("LTXVAudioVAELoader", ckpt_name=LTX_2.name)
    w.prompts({"text": FOX}, STILL)
    w.group("Size and length", 2, INPUT)
    video = w.node("EmptyLTXVLatentVideo", "Size", width=768, height=512, length=121)
    sound = w.node("LTXVEmptyLatentAudio", "Sound", audio_vae=sound_vae, frames_number=121, frame_rate=24)
    w.gate(is_experimental=True)
    w.last.update(w.group("Frame rate", 3, INPUT).node("LTXVConditioning", frame_rate=24.0))
    latent = w.group("Video and sound", 3).node("LTXVConcatAVLatent", video_latent=video, audio_latent=sound)
    sampled = w.group("Sampling", 4).custom_sampler(LTX_2_RUN, "LTXVScheduler", latent=latent)
    parts = w.group("Video", 5).node("LTXVSeparateAVLatent", av_latent=sampled["output"])
    w.node("VAEDecode", samples=parts["video_latent"], vae=vae)
    _save_video(w, "ltx2", 24.0)
    w.group("Sound", 6).node("LTXVAudioVAEDecode", samples=parts["audio_latent"], audio_vae=sound_vae)
    w.node("PreviewAudio", "Listen")


def wan22_t2v(w: Workflow) -> None:
    """Two experts, one for the steps with much noise and one for the others, and a node on each."""
    w.group("Model", UNDER_NOTE)
    experts = [w.node("UNETLoader", title, unet_name=file) for title, file in WAN_22.items()]
    w.node("VAELoader", vae_name=WAN_VAE)
    w.node("CLIPLoader", clip_name=UMT5, type="wan")
    w.prompts({"text": FOX}, STILL)
    latent: Link = w.group("Video size", 2, INPUT).node("EmptyHunyuanLatentVideo", "Size", **WAN_SIZE)
    for column, (expert, title) in enumerate(zip(experts, WAN_22, strict=True), start=3):
        w.group(title, column).node("ModelSamplingSD3", model=expert, shift=5.0)
        w.gate(column, is_experimental=True)
        w.group("Sampling", column)
        latent = w.node("KSamplerAdvanced", latent_image=latent, **WAN_RUN, **WAN_STEPS[title])
    w.group("Video", 5).node("VAEDecode", samples=latent)
    _save_video(w, "wan22_t2v", 16.0)


def qwen_edit(w: Workflow) -> None:
    """A picture that is changed as a text says: the model is given it as text and as a latent."""
    w.group("Model", UNDER_NOTE).node("UNETLoader", unet_name=QWEN_EDIT)
    vae = w.node("VAELoader", vae_name=QWEN_VAE)
    w.node("CLIPLoader", clip_name=QWEN_TEXT, type="qwen_image")
    w.start_picture()
    picture = w.node("FluxKontextImageScale")
    w.group("Model sampling", 2).node("ModelSamplingAuraFlow", shift=3.1)
    w.node("CFGNorm", strength=1.0)
    w.group("Prompts", 2, INPUT)
    texts = (("positive", "Prompt", "make it a winter night, with snow"), ("negative", "Negative prompt", ""))
    for name, title, text in texts:
        encoded = w.node("TextEncodeQwenImageEditPlus", title, prompt=text, vae=vae, image1=picture)
        method = {"reference_latents_method": "index_timestep_zero", "conditioning": encoded}
        w.last[name] = w.node("FluxKontextMultiReferenceLatentMethod", **method)
    w.gate(is_experimental=True)
    w.group("Picture as a latent", 3, INPUT).node("VAEEncode")
    _sample(w, "qwen_edit", QWEN_EDIT_RUN)


def hunyuan3d(w: Workflow) -> None:
    """A shape from a picture."""
    w.group("Model", UNDER_NOTE).node("ImageOnlyCheckpointLoader", ckpt_name=HUNYUAN3D)
    w.start_picture()
    w.group("Model sampling", 2).node("ModelSamplingAuraFlow", shift=1.0)
    w.group("The picture as the model sees it", 2, INPUT).node("CLIPVisionEncode", crop="center")
    w.last.update(w.node("Hunyuan3Dv2Conditioning"))
    w.gate(is_experimental=True)
    w.group("Shape size", 3, INPUT).node("EmptyLatentHunyuan3Dv2", "Size", resolution=4096)
    w.group("Sampling", 4).sampler(HUNYUAN3D_RUN)
    w.group("Shape", 5).node("VAEDecodeHunyuan3D", num_chunks=8000, octree_resolution=256)
    mesh = w.node("VoxelToMesh", algorithm="surface net", threshold=0.6)
    w.node("SaveGLB", mesh=mesh, filename_prefix="TGATE/hunyuan3d")


def _save_video(w: Workflow, name: str, fps: float) -> None:
    form = {"filename_prefix": f"TGATE/{name}", "fps": fps, "lossless": False, "quality": 90}
    w.node("SaveAnimatedWEBP", "Save video", **form)


def _advanced(w: Workflow, **settings: Any) -> None:
    usual = {"gate_unit": "step", "sp_interval": 1, "guidance": "cached_delta", "refresh": "never"}
    w.node("TGATEApplyAdvanced", **{**usual, **settings})


def _sample(w: Workflow, name: str, run: Run = RUN, column: int = 4, **inputs: Any) -> None:
    w.group("Sampling", column).sampler(run, **inputs)
    w.picture(name, column + 1)


_ALL = (
    compare,
    deepcache_sdxl,
    forecast_sdxl,
    img2img,
    hires,
    controlnet,
    regional,
    probe,
    ltx2,
    wan22_t2v,
    qwen_edit,
    hunyuan3d,
)
GRAPHS = {graph.__name__: graph for graph in _ALL}


@dataclass(frozen=True, kw_only=True)
class Recipe(Note):
    """A use of T-GATE."""

    graph: str  # the function that makes it
    blueprint: str = ""  # of the host, whose files and settings these are

    def build(self, w: Workflow) -> None:
        """Add the nodes."""
        GRAPHS[self.graph](w)
