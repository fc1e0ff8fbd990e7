"""The results: a line of JSON for each method, setting and half of the prompts, written as each ends."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from .. import json_lines

FILE = "records.jsonl"


class Setting(NamedTuple):
    """What a sampler node is told."""

    network: str
    steps: int
    sampler: str
    cfg: float

    def __str__(self) -> str:
        return f"{self.network}, {self.steps} steps, {self.sampler}, cfg {self.cfg:g}"


class Place(NamedTuple):
    """What there is one record of."""

    setting: Setting
    method: str
    half: str


@dataclass(frozen=True)
class Record:
    """The runs of a method; lists are by prompt.

    Attributes:
        place: setting, method, and half of the prompts.
        key: changes with anything that the figures depend on.
        versions: of torch and ComfyUI.
        pixels: side of a picture.
        macs: of all runs.
        cost: MACs over those of the plain runs.
        distance: to the latents of the plain runs, RMS.
        ssim: with the plain pictures.
        right: 1 where the judge finds all that the prompt says, else 0; empty without a judge.
    """

    place: Place
    key: str
    versions: str
    pixels: int
    macs: int
    cost: float
    distance: list[float]
    ssim: list[float]
    right: list[int]


class Records:
    """The records in a folder; of those of one place the last counts."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE
        folder.mkdir(parents=True, exist_ok=True)
        self._records = {record.place: record for record in map(_parsed, json_lines.read(self._file))}

    def add(self, record: Record) -> None:
        """Keep a record, and write it behind the others."""
        self._records[record.place] = record
        json_lines.append(self._file, _flat(record))

    def has(self, place: Place, key: str) -> bool:
        """Whether there is a record of this that still holds."""
        return place in self._records and self._records[place].key == key

    def pooled(self, halves: list[str]) -> dict[Setting, dict[str, Record]]:
        """By setting and method, one record of these halves taken together."""
        pooled: dict[Setting, dict[str, Record]] = {}
        for half, (place, record) in itertools.product(halves, self._records.items()):
            if place.half == half:
                methods = pooled.setdefault(place.setting, {})
                earlier = methods.get(place.method)
                methods[place.method] = _together(earlier, record) if earlier else record
        return pooled


def _together(first: Record, second: Record) -> Record:
    macs, plain = first.macs + second.macs, first.macs / first.cost + second.macs / second.cost
    distance, ssim, right = first.distance + second.distance, first.ssim + second.ssim, first.right + second.right
    return replace(first, macs=macs, cost=macs / plain, distance=distance, ssim=ssim, right=right)


def _flat(record: Record) -> dict[str, Any]:
    fields = asdict(record)
    place = fields.pop("place")
    return {**place.setting._asdict(), "method": place.method, "half": place.half, **fields}


def _parsed(line: Mapping[str, Any]) -> Record:
    fields = dict(line)
    setting = Setting(*(fields.pop(name) for name in Setting._fields))
    return Record(Place(setting, fields.pop("method"), fields.pop("half")), **fields)
