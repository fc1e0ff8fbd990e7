"""The graph that all models have, from a prompt to a picture, a video or sound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .note import Note
from .workflow import BLURRY, INPUT, LIGHTHOUSE, UNDER_NOTE, File, FileRow, Link, Node, Workflow


@dataclass(frozen=True, kw_only=True)
class Model(Note):
    """A model and its usual run; the note says the rest of it."""

    blueprint: str = ""  # of the host, whose files and settings these are
    file: FileRow  # the checkpoint; where `vae` is given, the diffusion model alone
    vae: FileRow | None = None
    clip: Sequence[FileRow] = ()
    clip_type: str = ""
    vision: FileRow | None = None  # what a start picture is shown to
    tokens: tuple[str, Mapping[str, Any]] | None = None  # a node that changes how text is read, and its settings
    sampling: tuple[str, Mapping[str, Any]] | None = None  # a node that changes the noise schedule, and its settings
    sigmas: tuple[str, Mapping[str, Any]] | None = None  # a node in place of a scheduler by name, and its settings
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
        if self.tokens:
            w.group("Reading the text", 2).node(self.tokens[0], **self.tokens[1])
        w.prompts(self.prompt, self.negative, self.encoder)
        pictures: dict[str, Link] = {}
        if self.vision:
            seen = w.group("The picture as the model sees it", 2, INPUT).node("CLIPVisionEncode", crop="none")
            pictures = {"start_image": w.last["IMAGE"], "clip_vision_output": seen}
        w.gate(is_experimental=bool(self.unpublished) or self.has_joint_attention)
        if self.latent[0].endswith("ImageToVideo"):
            w.last.update(self._latent(w, 3, "Size and length", **pictures))
        elif "lyrics" not in self.prompt:
            self._latent(w, 3)
        if self.negative is None:
            w.group("Nothing to avoid", 3, INPUT)
            w.last["negative"] = w.node("ConditioningZeroOut", "No negative prompt", conditioning=w.last["positive"])
        w.group("Sampling", 4)
        if self.sigmas:
            w.custom_sampler(self.run, self.sigmas[0], **self.sigmas[1])
        else:
            w.sampler(self.run)
        self._show(w)

    def _load(self, w: Workflow) -> None:
        if self.vae is None:
            w.checkpoint(File.of(self.file))
        else:
            w.group("Model", UNDER_NOTE).node("UNETLoader", unet_name=File.of(self.file))
            w.node("VAELoader", vae_name=File.of(self.vae))
        clip = [File.of(row) for row in self.clip]
        if len(clip) == 1:
            w.node("CLIPLoader", clip_name=clip[0], type=self.clip_type)
        elif clip:
            names = {f"clip_name{number}": file for number, file in enumerate(clip, start=1)}
            kind = {"type": self.clip_type} if self.clip_type else {}
            w.node("DualCLIPLoader" if kind else "QuadrupleCLIPLoader", **names, **kind)
        if self.vision:
            w.node("CLIPVisionLoader", clip_name=File.of(self.vision))
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
