"""TGATE Save Probe and TGATE Load Probe: a measured profile as a file in ComfyUI's own folders."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import folder_paths
from comfy_api.latest import io

from ..tgate_core.engine.inputs import shown
from ..tgate_core.probe.file import SUFFIX, load_profile, save_profile
from ..tgate_core.probe.profile import Probe
from .apply import ALIASES, CATEGORY
from .probe import ProbeType, measured

if TYPE_CHECKING:
    from ..tgate_core.probe.profile import ConvergenceProfile

# How the host marks a file of its output folder among those of its input folder.
_OF_OUTPUT = " [output]"
FOLDER = "tgate"
# The end of a name to the system, and halves of letters, which stand for bytes that are no text.
_NO_LETTERS = re.compile("[\0\ud800-\udfff]")
DEFAULT_PREFIX = f"{FOLDER}/probe"


class TGATESaveProbe(io.ComfyNode):
    """Write a probe."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as the editor shows it."""
        return io.Schema(
            node_id="TGATESaveProbe",
            display_name="TGATE Save Probe",
            category=CATEGORY,
            description="Saves what TGATE Probe measured into ComfyUI's output folder, to be used again or shared.",
            search_aliases=[*ALIASES, "save measurement"],
            inputs=[
                ProbeType.Input("probe", tooltip="From TGATE Convergence Plot, which waits for the measured run."),
                io.String.Input(
                    "filename_prefix",
                    default=DEFAULT_PREFIX,
                    tooltip="Name in the output folder; a number and the ending are added.",
                ),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, probe: Probe, filename_prefix: str = DEFAULT_PREFIX) -> io.NodeOutput:
        """Writes the file.

        Raises:
            ValueError: nothing was measured yet, or the file cannot be written under this name.
        """
        profile = measured(probe)
        check_prefix(filename_prefix)
        try:
            path = save_new(profile, filename_prefix)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise ValueError(
                f"TGATE: the probe cannot be saved as {shown(filename_prefix)} ({reason}); make room in the output "
                "folder, or change filename_prefix."
            ) from error
        return io.NodeOutput(ui={"text": (f"saved as {path.name}",)})


class TGATELoadProbe(io.ComfyNode):
    """Read a probe."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """The node as the editor shows it."""
        return io.Schema(
            node_id="TGATELoadProbe",
            display_name="TGATE Load Probe",
            category=CATEGORY,
            description="Loads what TGATE Save Probe saved, from ComfyUI's input or output folder.",
            search_aliases=[*ALIASES, "load measurement"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=probe_files(),
                    tooltip=f"Files ending in {SUFFIX}; put those that you were given into the input folder.",
                ),
            ],
            outputs=[ProbeType.Output(display_name="probe", tooltip="For TGATE Apply (Advanced) or the plot.")],
        )

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        """The probe.

        Raises:
            ValueError: the file is not there, leads out of the host's folders, or holds no measurement.
        """
        return io.NodeOutput(Probe(load_profile(probe_path(file))))

    @classmethod
    def validate_inputs(cls, file: str | None) -> bool | str:
        """Files may come after the editor has asked for the list: what counts is whether it is there now."""
        if file is None:
            return True  # the host's word for a link: what it brings is looked at when the node runs
        try:
            probe_path(file)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, file: str | None) -> Any:
        """Changes when the file does; each time where a link names it, or there is none."""
        try:
            return probe_path(file).stat().st_mtime_ns
        except (OSError, ValueError):
            return float("nan")  # made anew: to the host, one and the same object is equal to itself


def save_new(profile: ConvergenceProfile, filename_prefix: str) -> Path:
    """Write a profile under the next number that is free, whoever else saves at the same time.

    Raises:
        OSError: the name will not do, or the disk is full.
    """
    output = folder_paths.get_output_directory()
    folder, name, counter, _, _ = folder_paths.get_save_image_path(filename_prefix, output)
    while True:
        path = Path(folder) / f"{name}_{counter:05}_{SUFFIX}"
        try:
            save_profile(profile, path)
            return path
        except FileExistsError:
            counter += 1


def check_prefix(prefix: Any) -> None:
    """Refuse a prefix that does not name a file in the output folder; the host's own error has a path in it.

    Raises:
        ValueError: it does not.
    """
    given = f"filename_prefix is {shown(prefix)}"
    if isinstance(prefix, str):
        _check_letters(prefix, given)
        folder, name = os.path.split(os.path.normpath(prefix))
        if name not in (os.curdir, os.pardir):
            _inside(Path(folder_paths.get_output_directory()), folder, given)
            return
    raise ValueError(f"TGATE: {given}; give a name in the output folder.")


def probe_files() -> list[str]:
    """Probes in the input and output folders, by the names that the host gives such files.

    Output folders grow large: only their top, and the folder that probes are saved into, are looked through.
    """
    found = []
    for folder, mark in (
        (folder_paths.get_input_directory(), ""),
        (folder_paths.get_output_directory(), _OF_OUTPUT),
    ):
        root = Path(folder)
        with suppress(OSError):  # a folder that is not there, or not ours to read
            paths = sorted([*root.glob(f"*{SUFFIX}"), *(root / FOLDER).rglob(f"*{SUFFIX}")])
            found += [f"{path.relative_to(root).as_posix()}{mark}" for path in paths]
    return [file for file in found if _is_offered(file)]


def _is_offered(file: str) -> bool:
    try:
        probe_path(file)
    except ValueError:
        return False
    return True


def probe_path(file: Any) -> Path:
    """Where a file of the list lies.

    Raises:
        ValueError: it is no name, lies outside of the host's folders, has another ending, or is not there.
    """
    if not isinstance(file, str):
        raise ValueError(f"TGATE: file is {shown(file)}; connect the name of a file.")
    given = f"file is {shown(file)}"
    is_output = file.endswith(_OF_OUTPUT)
    root = Path(folder_paths.get_output_directory() if is_output else folder_paths.get_input_directory())
    path = _inside(root, file.removesuffix(_OF_OUTPUT), given)
    if not path.name.endswith(SUFFIX):
        raise ValueError(f"TGATE: {given}, which is no probe; its name has to end in {SUFFIX}.")
    if not path.is_file():
        raise ValueError(f"TGATE: {given}, but there is no file of this name; choose another.")
    return path


def _inside(root: Path, name: str, given: str) -> Path:
    """A name within a folder, links followed.

    Args:
        root: the folder.
        name: relative to it.
        given: what an error begins with: the input and its value.

    Raises:
        ValueError: it leads elsewhere, or nowhere.
    """
    _check_letters(name, given)
    try:
        path = (root / name).resolve()
        path.is_file()  # has the system look at it, which refuses what is too long
    except (OSError, RuntimeError) as error:
        raise ValueError(f"TGATE: {given}, which leads to no file; choose another.") from error
    if not path.is_relative_to(root.resolve()):
        raise ValueError(f"TGATE: {given}, which lies outside of ComfyUI's input and output folders; use those.")
    return path


def _check_letters(name: str, given: str) -> None:
    """Refuse letters that no file name can have, before the system is asked: each says so in another way."""
    if _NO_LETTERS.search(name):
        raise ValueError(f"TGATE: {given}, which has letters that no file name can have; choose another.")
