"""What is painted with: a network of the scenes, or a person's checkpoint.

Both have a `name`, a `model` (the host's ModelPatcher), a `count` of prompts, the side of a picture in `pixels`, and a
`key` that changes with weights, prompts and noise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import comfy.sample
import comfy.samplers
import comfy.sd
import torch
from torch import Tensor

from ..cache import content_key
from ..errors import UserError
from ..scenes import checkpoint, painting, weights, world
from .records import Setting

SCHEDULER = "normal"


class Scenes:
    """A small network of the repository, its prompts and its judge."""

    def __init__(self, name: str, count: int) -> None:
        self.name, self.count, self.pixels = name, count, world.SIZE
        self.model = self.load()
        self._attributes, self._noise = world.measuring_set(count)
        self._decoder, self._judge = painting.load_decoder(), painting.load_judge()
        files = (weights.FOLDER / f"{part}.safetensors" for part in (name, "decoder", "judge"))
        self.key = content_key(path.read_bytes().hex() for path in files)

    def load(self) -> Any:
        """Another model of its own, for what changes a network for good."""
        return painting.load_model(self.name)

    def paint(self, model: Any, setting: Setting, prompts: list[int]) -> Tensor:
        """Latents of prompts, by number: (prompts, channels, height, width), with a deviation of 1."""
        given = self._attributes[prompts], self._noise[prompts]
        return painting.paint(model, *given, setting.steps, setting.cfg, setting.sampler)

    def macs(self, counts: dict[str, int]) -> int:
        """What a run costs, see `figures.counting_macs`; of the UNet, at the width of SD 1.5."""
        return checkpoint.wide_macs(counts) if self.name == "unet" else counts[""]

    def pictures(self, latents: Tensor) -> Tensor:
        """Decoded: (prompts, 3, height, width), from 0 to 1."""
        return painting.pictures(self._decoder, latents)

    def right(self, pictures: Tensor, prompts: list[int]) -> list[int]:
        """1 where a picture shows all that its prompt says, else 0."""
        found: list[int] = self._judge.right(pictures, self._attributes[prompts]).int().tolist()
        return found


class Checkpoint:
    """A person's checkpoint with prompts; each picture is sampled alone, as texts may differ in length.

    Raises:
        UserError: a file cannot be read.
    """

    def __init__(self, file: Path, prompts: Path, pixels: int) -> None:
        try:
            texts = [line for line in prompts.read_text(encoding="utf-8").splitlines() if line.strip()]
            self.key = content_key([f"{file.absolute()} {file.stat().st_mtime_ns} {pixels}", *texts])
        except OSError as error:
            raise UserError(f"A file cannot be read: {error}") from error
        self.name, self.count, self.pixels, self._file = file.stem, len(texts), pixels, file
        self.model, clip, self._vae = self._load_all()
        *self._texts, self._empty = (clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in [*texts, ""])

    def load(self) -> Any:
        """See `Scenes`."""
        return self._load_all()[0]

    @torch.no_grad()
    def paint(self, model: Any, setting: Setting, prompts: list[int]) -> Tensor:
        """See `Scenes`; the number of a prompt is its seed."""
        form, sampling = (model.get_model_object(name) for name in ("latent_format", "model_sampling"))
        side = self.pixels // form.spacial_downscale_ratio
        empty = torch.zeros(1, form.latent_channels, side, side)
        sigmas, painted = comfy.samplers.calculate_sigmas(sampling, SCHEDULER, setting.steps), []
        for seed in prompts:
            solver = comfy.samplers.sampler_object(setting.sampler)
            given = comfy.sample.prepare_noise(empty, seed), setting.cfg, solver, sigmas, self._texts[seed], self._empty
            latents = comfy.sample.sample_custom(model, *given, empty, disable_pbar=True, seed=seed)
            painted.append(form.process_in(latents.float().cpu()))
        return torch.cat(painted)

    def macs(self, counts: dict[str, int]) -> int:
        """See `Scenes`."""
        return counts[""]

    @torch.no_grad()
    def pictures(self, latents: Tensor) -> Tensor:
        """See `Scenes`."""
        form = self.model.get_model_object("latent_format")
        decoded = [self._vae.decode(form.process_out(one)) for one in torch.split(latents, 1)]
        return torch.cat(decoded).movedim(-1, 1).float().cpu().clamp(0, 1)

    def right(self, _pictures: Tensor, _prompts: list[int]) -> list[int]:
        """Nothing: there is no judge."""
        return []

    def _load_all(self) -> tuple[Any, Any, Any]:
        try:
            model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(str(self._file))
        except RuntimeError as error:
            raise UserError(f"{self._file} cannot be loaded as a checkpoint: {error}") from error
        if None in (model, clip, vae):
            raise UserError(f"{self._file}: a checkpoint with model, text encoder and VAE is needed.")
        return model, clip, vae


Subject: TypeAlias = Scenes | Checkpoint
