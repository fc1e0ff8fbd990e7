"""Runs `bench quality`."""

from __future__ import annotations

import argparse
import functools
import importlib
import itertools
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..bench.pack import Nodes
from ..cache import cache_root, content_key
from ..errors import UserError
from ..progress import Stage, say
from ..scenes import weights
from . import charts, figures, sheet, table
from .methods import PLAIN, Method, make_methods
from .options import HALVES, NETWORKS, fill_in
from .records import Place, Record, Records, Setting
from .subjects import Checkpoint, Scenes, Subject

COUNTING = "at full width"  # of MACs


@dataclass(frozen=True, eq=False)
class Work:
    """One record to be made, of the prompts of its half."""

    place: Place
    subject: Subject
    method: Method
    prompts: list[int]

    @functools.cached_property
    def key(self) -> str:
        """Changes with anything that the figures depend on."""
        setting, method, half = self.place
        own = COUNTING, str(setting), method, self.method.source, half, str(len(self.prompts))
        return content_key([self.subject.key, *own, _versions()])

    def is_there(self, shown: Collection[tuple[Setting, str]]) -> bool:
        """Whether its latents are kept, if those of its setting and half are to be shown."""
        return (self.place.setting, self.place.half) not in shown or self.file.is_file()

    @property
    def file(self) -> Path:
        """Where its latents are kept: all of the plain run, else as many as the sheet shows."""
        return cache_root() / "quality" / f"{self.key}.safetensors"


def measure(options: argparse.Namespace, nodes: Nodes) -> int:
    """Measure what there is no record of yet, then write the table, the charts and the pictures.

    Args:
        options: see `options.add_arguments`.
        nodes: the pack's nodes by id.

    Raises:
        UserError: an option does not fit.
    """
    fill_in(options)
    torch.set_flush_denormal(True)
    subjects = _subjects(options)
    methods = {
        (subject.name, steps): make_methods(subject.model, steps, nodes, options.peers)
        for subject, steps in itertools.product(subjects, options.steps)
    }
    work, records = [*_all_work(options, subjects, methods)], Records(options.out)
    shown = {(one.place.setting, one.place.half) for one in _first(work).values()}
    left = [one for one in work if not (records.has(one.place, one.key) and one.is_there(shown))]
    say(f"{len(work) - len(left)} of {len(work)} records are there already")
    _measure(left, {one.place: one for one in work if one.method.name == PLAIN}, records)
    # Of all networks, so that the colours do not depend on what was asked for.
    for subject in [] if options.checkpoint else [Scenes(name, len(HALVES)) for name in _there(NETWORKS)]:
        methods.setdefault((subject.name, options.steps[0]), make_methods(subject.model, options.steps[0], nodes, []))
    ordered = sorted(methods.items(), key=lambda one: NETWORKS.index(one[0][0]) if one[0][0] in NETWORKS else 0)
    series = {method.name: method.series for _, some in ordered for method in some}
    _write(options.out, records.pooled(_halves(options)), work, series)
    say(f"The results are in {options.out}")
    return 0


def _subjects(options: argparse.Namespace) -> list[Subject]:
    is_number = options.prompts.isdecimal()
    if options.checkpoint:
        if is_number:
            raise UserError("--checkpoint needs --prompts FILE: a text file with a prompt a line.")
        return [Checkpoint(options.checkpoint, Path(options.prompts), options.pixels)]
    if not is_number or int(options.prompts) < len(HALVES):
        raise UserError("--prompts: give a number of 2 or more; a file goes with --checkpoint.")
    there = _there(options.networks)
    for name in set(options.networks) - set(there):
        say(f"{name} is left out: it has no weights in {weights.FOLDER}")
    return [Scenes(name, int(options.prompts)) for name in there]


def _there(networks: Iterable[str]) -> list[str]:
    """Those that have weights."""
    return [name for name in networks if (weights.FOLDER / f"{name}.safetensors").is_file()]


def _halves(options: argparse.Namespace) -> list[str]:
    return [*HALVES] if options.half == "all" else [options.half]


def _all_work(
    options: argparse.Namespace, subjects: list[Subject], methods: dict[tuple[str, int], list[Method]]
) -> Iterator[Work]:
    """In the order in which it is done. Halves are painted apart: a batch is the same whichever were asked for."""
    settings = itertools.product(options.steps, options.samplers, options.cfg, subjects, _halves(options))
    for steps, sampler, cfg, subject, half in settings:
        prompts = [*range(HALVES.index(half), subject.count, len(HALVES))]
        for method in methods[subject.name, steps]:
            if method.name == PLAIN or not options.methods or any(part in method.name for part in options.methods):
                place = Place(Setting(subject.name, steps, sampler, cfg), method.name, half)
                yield Work(place, subject, method, prompts)


def _first(work: Iterable[Work]) -> dict[str, Work]:
    """By network, the first of what was asked for: its setting and half are those whose pictures are shown."""
    return {one.place.setting.network: one for one in reversed([*work])}


def _measure(left: list[Work], plain: dict[Place, Work], records: Records) -> None:
    # Runs of the network are nearly all of the time.
    sizes = [work.place.setting.steps * len(work.prompts) for work in left]
    start = time.monotonic()
    with Stage("Measuring") as stage:
        for number, work in enumerate(left, 1):
            records.add(_measured(work, plain[work.place._replace(method=PLAIN)]))
            minutes = (time.monotonic() - start) * sum(sizes[number:]) / sum(sizes[:number]) / 60
            last = f"{work.place.setting}, {work.place.method}"
            stage.update(f"{number} of {len(left)}, about {minutes:.0f} minutes left; last: {last}")


def _measured(work: Work, plain_work: Work) -> Record:
    plain, plain_pictures, plain_macs = _plain(plain_work)
    latents, macs = plain, plain_macs
    if work is not plain_work:
        latents, macs = _painted(work)
        _keep(work.file, latents[: sheet.SHOWN].half(), macs)
    pictures = work.subject.pictures(latents)
    return Record(
        *(work.place, work.key, _versions(), work.subject.pixels),
        macs=macs,
        cost=macs / plain_macs,
        distance=_rounded(figures.distance(latents, plain)),
        ssim=_rounded(figures.similarity(pictures, plain_pictures)),
        right=work.subject.right(pictures, work.prompts),
    )


@functools.lru_cache(maxsize=1)
def _plain(work: Work) -> tuple[Tensor, Tensor, int]:
    """Latents, pictures and MACs of the plain run, which is kept."""
    if not work.file.is_file():
        _keep(work.file, *_painted(work))
    kept = load_file(work.file)
    return kept["latents"], work.subject.pictures(kept["latents"]), int(kept["macs"])


def _painted(work: Work) -> tuple[Tensor, int]:
    subject = work.subject
    model = work.method.patch(subject.load() if work.method.is_foreign else subject.model)
    latents, counts = figures.counting_macs(lambda: subject.paint(model, work.place.setting, work.prompts))
    return latents, subject.macs(counts)


def _keep(file: Path, latents: Tensor, macs: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    save_file({"latents": latents.contiguous(), "macs": torch.tensor(macs)}, new)
    new.replace(file)


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 4) for value in values.tolist()]


@functools.cache
def _versions() -> str:
    return f"torch {torch.__version__}, ComfyUI {importlib.import_module('comfyui_version').__version__}"


def _write(
    folder: Path, by_setting: dict[Setting, dict[str, Record]], work: list[Work], series: dict[str, str]
) -> None:
    """The table of all records in the folder; charts and pictures of the settings that were asked for."""
    table.write(folder / "table.md", by_setting)
    asked = {one.place.setting for one in work}
    for network, first in _first(work).items():
        setting, _, half = first.place
        drawn = {one: some for one, some in by_setting.items() if one in asked and one.network == network}
        charts.draw(folder, drawn, series)
        shown = [one for one in work if (one.place.setting, one.place.half) == (setting, half)]
        latents = {one.place.method: load_file(one.file)["latents"][: sheet.SHOWN].float() for one in shown}
        pictures = {name: first.subject.pictures(some) for name, some in latents.items()}
        sheet.draw(folder / f"{network}-pictures.webp", pictures, by_setting[setting])
