"""Build a workflow node by node, laid out in columns, as ComfyUI's editor saves it."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from ..errors import UserError
from ..prompts import ObjectInfo, choices_of, input_type, inputs_of, is_widget, options_of, saved_widgets
from .family import tell_families
from .note import NOTE_WIDTH, RUN, Note, Run, note_height

MODEL, INPUT, GATE = "#3f789e", "#88A", "#8A8"  # colors of groups
NOTE_COLORS = {"color": "#432", "bgcolor": "#653"}
GATE_COLORS = {"color": "#232", "bgcolor": "#353"}
FOLDERS = {
    "CheckpointLoaderSimple": "checkpoints",
    "ImageOnlyCheckpointLoader": "checkpoints",
    "UNETLoader": "diffusion_models",
    "VAELoader": "vae",
    "CLIPLoader": "text_encoders",
    "DualCLIPLoader": "text_encoders",
    "QuadrupleCLIPLoader": "text_encoders",
    "LTXAVTextEncoderLoader": "text_encoders",
    "CLIPVisionLoader": "clip_vision",
    "ControlNetLoader": "controlnet",
}
# Fixed, so that each workflow keeps its id.
NAMESPACE = uuid.UUID("6f0f0b5e-3c0c-5d7e-9a68-1f8a6f3f6f1e")
# Pixels, as the editor draws nodes.
SLOT, WIDGET, BELOW_WIDGETS, BELOW_SLOTS, TITLE, STRIP = 20, 24, 14, 6, 30, 168
CHARACTER, BESIDE_FILE_NAME = 7.2, 80
GAP, NOTE_GAP, SIDE, ABOVE = 20, 60, 25, 80
# The column of groups below the note. Graphs are opened as wide as the window, so narrow ones can be read.
UNDER_NOTE = 0
WIDTH = 330
# Least width and height, with room for texts and pictures.
SIZES = {
    "KSampler": (315, 0),
    "CLIPTextEncode": (360, 150),
    "CLIPTextEncodePixArtAlpha": (WIDTH, 198),
    "CLIPTextEncodeLumina2": (WIDTH, 190),
    "TextEncodeQwenImageEditPlus": (360, 230),
    "TextEncodeAceStepAudio": (WIDTH, 330),
    "TextEncodeAceStepAudio1.5": (WIDTH, 620),
    "LoadImage": (WIDTH, 314),
    "SaveImage": (420, 430),
    "SaveAnimatedWEBP": (420, 460),
    "PreviewImage": (WIDTH, 300),
    "PreviewAny": (WIDTH, 190),
    "PreviewAudio": (WIDTH, 100),
    "TGATEReport": (500, 0),
    "TGATEConvergencePlot": (500, 0),
}

SEED = 156680208700286
LIGHTHOUSE = "a lighthouse on a rocky coast at dusk, warm light in the windows, detailed oil painting"
BLURRY = "blurry, low quality, watermark, text"
NEGATIVE_LESS = 40  # pixels that a negative prompt is lower than a prompt
EXPERIMENTAL_HEIGHT = 292  # with room for what TGATE Apply says about a model without published settings


class DescriptionError(UserError):
    """A workflow does not fit the server's nodes; the text says where."""


FileRow = str | dict[str, str]  # in the table: a place alone, or what a `File` has


@dataclass(frozen=True)
class File:
    """A safetensors file on Hugging Face; without a path it is on the repository's page and saved under its name."""

    place: str  # "owner/repository:path", without the ending
    remark: str = ""  # a sentence for the note

    @classmethod
    def of(cls, row: FileRow) -> File:
        """The file that a row names."""
        return cls(row) if isinstance(row, str) else cls(**row)

    @property
    def name(self) -> str:
        """What it is called in ComfyUI's folder."""
        return self.place.replace(":", "/").rpartition("/")[2] + ".safetensors"

    @property
    def url(self) -> str:
        """Where to get it."""
        repository, _, path = self.place.partition(":")
        return f"https://huggingface.co/{repository}" + (f"/resolve/main/{path}.safetensors" if path else "")

    def instruction(self, folder: str) -> str:
        """Where to get it and where to put it, in Markdown."""
        link = f"[{self.name}]({self.url})"
        source = link if ":" in self.place else f"`{self.name}` of {link.replace('.safetensors', '', 1)}"
        return f"{source}, in `models/{folder}`. {self.remark}".rstrip()


class Output(NamedTuple):
    """An output of a node."""

    entry: dict[str, Any]
    slot: int


class Node(dict[str, Output]):
    """A node's outputs by their names; where it has only one, the node stands for it."""

    def __missing__(self, name: str) -> Output:
        raise DescriptionError(f"no output {name} among {list(self)}")


Link = Output | Node


@dataclass
class Group:
    """A frame around nodes that stand below each other; groups of a column stand below each other, too."""

    title: str
    column: int
    color: str
    entries: list[dict[str, Any]] = field(default_factory=list)
    box: list[int] = field(default_factory=list)  # left, top, width and height


@dataclass
class Workflow:
    """One workflow in the making.

    A node is linked to those before it without being told: each input that it cannot do without comes from `last`,
    by the input's name or else by its type.
    """

    object_info: ObjectInfo  # what a server says about its nodes
    last: dict[str, Link] = field(default_factory=dict)  # first outputs by type, prompts by name
    _groups: list[Group] = field(default_factory=list)
    _links: list[list[Any]] = field(default_factory=list)
    _loads: list[str] = field(default_factory=list)

    def group(self, title: str, column: int, color: str = MODEL) -> Workflow:
        """Begin a group, which the nodes that follow are in; returns the workflow."""
        self._groups.append(Group(title, column, color))
        return self

    def node(self, kind: str, title: str = "", min_height: int = 0, /, **inputs: Any) -> Node:
        """Add a node.

        Args:
            kind: its type.
            title: shown in place of the type's name.
            min_height: pixels; 0 for what suits its type.
            inputs: a value, a `File`, or the `Link` that it comes from; all else is linked or keeps its default.

        Raises:
            DescriptionError: the server has no such node or input, or an input without a default has no value.
        """
        if kind not in self.object_info:
            raise DescriptionError(f"the server has no node of the type {kind}")
        info = self.object_info[kind]
        known = inputs_of(info)
        if unknown := inputs.keys() - known.keys():
            raise DescriptionError(f"{kind} has no input {', '.join(sorted(unknown))}")
        files = [value for value in inputs.values() if isinstance(value, File)]
        entry = _entry(len(self._entries()) + 2, kind, _size(kind, info, files, min_height))  # the note is 1
        # The editor lists the inputs that only take links first.
        for slot, name in enumerate(sorted(known, key=lambda name: is_widget(known[name]))):
            origin = inputs[name] if name in inputs else self._last(info, name)
            entry["inputs"].append(_input(info, name, self._link(origin, entry["id"], slot)))
        for output, output_name in zip(info["output"], info["output_name"], strict=True):
            entry["outputs"].append({"name": output_name, "type": output, "links": []})
        entry |= {"title": title} if title else {}
        # The editor offers to download these.
        models = [{"name": f.name, "url": f.url, "directory": FOLDERS[kind]} for f in files if ":" in f.place]
        entry["properties"] = {"Node name for S&R": kind, **({"models": models} if models else {})}
        entry["widgets_values"] = list(_values(kind, info, inputs))
        entry |= GATE_COLORS if kind.startswith("TGATE") else {}
        if files:
            instructions = " ".join(file.instruction(FOLDERS[kind]) for file in files)
            self._loads.append(f"**{title or info['display_name']}**: {instructions}")
        self._groups[-1].entries.append(entry)
        outputs = [Output(entry, slot) for slot in range(len(entry["outputs"]))]
        self.last |= dict(zip(reversed(info["output"]), reversed(outputs), strict=True))
        return Node(zip(info["output_name"], outputs, strict=True))

    def checkpoint(self, file: File) -> None:
        """Load diffusion model, text encoder and VAE from one file."""
        self.group("Model", UNDER_NOTE).node("CheckpointLoaderSimple", ckpt_name=file)

    def start_picture(self, title: str = "Picture") -> None:
        """A picture of the user's."""
        self.group("Picture", 1, INPUT).node("LoadImage", title, image="example.png")

    def prompts(
        self,
        prompt: Mapping[str, Any] = MappingProxyType({"text": LIGHTHOUSE}),
        negative: str | None = BLURRY,
        encoder: str = "CLIPTextEncode",
    ) -> None:
        """Prompt and negative prompt; no negative prompt where it is None."""
        title = "Song" if "lyrics" in prompt else "Prompt"
        self.last["positive"] = self.group(title, 2, INPUT).node(encoder, title, **prompt)
        if negative is not None:
            self.negative(negative, encoder)

    def negative(self, text: str = BLURRY, encoder: str = "CLIPTextEncode") -> None:
        """The negative prompt."""
        height = SIZES[encoder][1] - NEGATIVE_LESS
        prompt = {"user_prompt" if encoder == "CLIPTextEncodeLumina2" else "text": text}
        self.last["negative"] = self.node(encoder, "Negative prompt", height, **prompt)

    def picture_size(self, width: int, height: int, column: int = 3) -> Node:
        """An empty latent."""
        return self.group("Picture size", column, INPUT).node("EmptyLatentImage", "Size", width=width, height=height)

    def gate(self, column: int = 3, is_experimental: bool = False) -> None:
        """TGATE Apply."""
        height = EXPERIMENTAL_HEIGHT if is_experimental else 0
        self.group("T-GATE", column, GATE).node("TGATEApply", "", height)

    def sampler(self, run: Run = RUN, title: str = "", /, **inputs: Any) -> Node:
        """A KSampler."""
        settings = dict(zip(("steps", "cfg", "sampler_name", "scheduler"), run, strict=True))
        return self.node("KSampler", title, **{"seed": SEED, **settings, **inputs})

    def custom_sampler(self, run: Run, scheduler: str, **settings: Any) -> Node:
        """A sampler that takes its noise levels from a node of the model's own.

        Args:
            run: its last entry counts for nothing.
            scheduler: type of that node.
            settings: of that node, but for its steps.
        """
        steps, cfg, sampler, _ = run
        sampler_node = self.node("KSamplerSelect", sampler_name=sampler)
        sigmas = self.node(scheduler, steps=steps, **settings)
        return self.node("SamplerCustom", noise_seed=SEED, cfg=cfg, sampler=sampler_node, sigmas=sigmas)

    def picture(self, name: str, column: int = 5, title: str = "Picture", **inputs: Link) -> Node:
        """Decode and save a picture; returns the decoded one."""
        decoded = self.group(title, column).node("VAEDecode", **inputs)
        self.node("SaveImage", filename_prefix=f"TGATE/{name}")
        return decoded

    def laid_out(self, note: int = 0) -> tuple[list[dict[str, Any]], list[list[Any]], list[dict[str, Any]]]:
        """Nodes, links and groups, as a file has them; `note` is the height of the note."""
        self._lay_out(note)
        groups = [
            {"id": number, "title": group.title, "bounding": group.box, "color": group.color, "flags": {}}
            for number, group in enumerate(self._groups, start=1)
        ]
        return self._entries(), self._links, groups

    def saved(self, note: Note) -> dict[str, Any]:
        """The workflow as its file has it."""
        text = note.markdown(self._loads)
        nodes, links, groups = self.laid_out(note_height(text))
        note_entry = _entry(1, "MarkdownNote", [NOTE_WIDTH, note_height(text)])
        note_entry |= {"title": "Read me", "properties": {}, "widgets_values": [text], **NOTE_COLORS}
        graph = {
            "id": str(uuid.uuid5(NAMESPACE, note.name)),
            "revision": 0,
            "last_node_id": len(nodes) + 1,
            "last_link_id": len(links),
            "nodes": [note_entry, *nodes],
            "links": links,
            "groups": groups,
            "config": {},
            "extra": {"ds": {"scale": 1, "offset": [100, 180]}},
            "version": 0.4,
        }
        tell_families(graph)
        return graph

    def _entries(self) -> list[dict[str, Any]]:
        return [entry for group in self._groups for entry in group.entries]

    def _last(self, info: Mapping[str, Any], name: str) -> Link | None:
        specification = info["input"].get("required", {}).get(name)
        if specification is None or is_widget(specification):
            return None
        return self.last.get(name) or self.last.get(input_type(specification))

    def _link(self, origin: Any, target: int, target_slot: int) -> int | None:
        """Number of a new link into an input; None where the input has a value."""
        if isinstance(origin, Node):
            origin = origin[next(iter(origin)) if len(origin) == 1 else "(which one?)"]
        if not isinstance(origin, Output):
            return None
        output, number = origin.entry["outputs"][origin.slot], len(self._links) + 1
        output["links"].append(number)
        self._links.append([number, origin.entry["id"], origin.slot, target, target_slot, output["type"]])
        return number

    def _lay_out(self, note: int) -> None:
        """Place all nodes and frame them."""
        left = NOTE_WIDTH + NOTE_GAP
        for column in sorted({group.column for group in self._groups}):
            groups = [group for group in self._groups if group.column == column]
            width = max(entry["size"][0] for group in groups for entry in group.entries)
            y = 0
            if column == UNDER_NOTE:
                left, width, y = SIDE, max(width, NOTE_WIDTH - 2 * SIDE), note + GAP + ABOVE if note else 0
            for group in groups:
                top = y
                for entry in group.entries:
                    entry["pos"], entry["size"][0] = [left, y], width
                    y += entry["size"][1] + TITLE + GAP
                y += SIDE - TITLE - GAP
                group.box = [left - SIDE, top - ABOVE, width + 2 * SIDE, y - top + ABOVE]
                y += GAP + ABOVE
            left += width + 2 * SIDE + (NOTE_GAP if column == UNDER_NOTE else GAP)


def _entry(number: int, kind: str, size: list[int]) -> dict[str, Any]:
    """What all nodes have; they are added in an order in which they can run."""
    place = {"id": number, "type": kind, "pos": [0, 0], "size": size}
    return {**place, "flags": {}, "order": number - 1, "mode": 0, "inputs": [], "outputs": []}


def _input(info: Mapping[str, Any], name: str, link: int | None) -> dict[str, Any]:
    specification = inputs_of(info)[name]
    entry: dict[str, Any] = {"name": name, "type": input_type(specification)}
    if is_widget(specification):
        entry["widget"] = {"name": name}
    elif name in info["input"].get("optional", {}):
        entry["shape"] = 7  # how the editor draws an optional input
    return {**entry, "link": link}


def _values(kind: str, info: Mapping[str, Any], inputs: Mapping[str, Any]) -> Iterator[Any]:
    for name, specification in saved_widgets(info):
        if name is None:  # the editor's own: the upload button of a picture, and what a seed does after a run
            yield "image" if options_of(specification).get("image_upload") else "fixed"
            continue
        value = inputs[name] if name in inputs else _default(kind, name, specification)
        if isinstance(value, Node):  # a linked widget shows the value of the node that it is linked to
            (origin,) = value.values()
            value = origin.entry["widgets_values"][0]
        yield value.name if isinstance(value, File) else value


def _default(kind: str, name: str, specification: list[Any]) -> Any:
    if "default" in options_of(specification):
        return options_of(specification)["default"]
    choices = choices_of(specification) if input_type(specification) == "COMBO" else []
    if not choices:
        raise DescriptionError(f"{kind}: {name} has no default, so it needs a value")
    return choices[0]


def _size(kind: str, info: Mapping[str, Any], files: Sequence[File], min_height: int) -> list[int]:
    """What the editor gives a new node, its strip included; wide enough for the longest file name."""
    min_width, usual_height = SIZES.get(kind, (WIDTH, 0))
    for_names = [math.ceil((CHARACTER * len(file.name) + BESIDE_FILE_NAME) / 10) * 10 for file in files]
    sockets = sum(not is_widget(specification) for specification in inputs_of(info).values())
    widgets = len(list(saved_widgets(info)))
    height = SLOT * max(sockets, len(info["output"])) + (WIDGET * widgets + BELOW_WIDGETS if widgets else BELOW_SLOTS)
    height += STRIP if kind.startswith("TGATEApply") else 0
    return [max(min_width, *for_names) if files else min_width, max(height, min_height or usual_height)]
