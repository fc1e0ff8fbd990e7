"""TGATE Save Probe and TGATE Load Probe: a measured profile as a file in ComfyUI's own folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io

from ..tgate_core.probe.file import SUFFIX, load_profile, save_profile
from ..tgate_core.probe.profile import Probe
from .apply import CATEGORY
from .probe import ProbeType, measured

# How the host marks a file of its output folder among those of its input folder.
_OF_OUTPUT = " [output]"
FOLDER = "tgate"
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
            search_aliases=["T-GATE save probe", "tgate save"],
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
            ValueError: nothing was measured yet.
            Exception: the name leads out of the output folder (the host's own error).
        """
        profile = measured(probe)
        folder, name, counter, _, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory()
        )
        while (path := Path(folder) / f"{name}_{counter:05}_{SUFFIX}").exists():
            counter += 1
        save_profile(profile, path)
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
            search_aliases=["T-GATE load probe", "tgate load"],
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
    def validate_inputs(cls, file: str) -> bool | str:
        """Files may come after the editor has asked for the list: what counts is whether it is there now."""
        try:
            return True if probe_path(file).is_file() else f"there is no file {file}"
        except ValueError as error:
            return str(error)

    @classmethod
    def fingerprint_inputs(cls, file: str) -> Any:
        """Changes when the file does."""
        path = probe_path(file)
        return path.stat().st_mtime_ns if path.is_file() else None


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
        paths = [*root.glob(f"*{SUFFIX}"), *(root / FOLDER).rglob(f"*{SUFFIX}")]
        found += [f"{path.relative_to(root).as_posix()}{mark}" for path in sorted(paths)]
    return found


def probe_path(file: str) -> Path:
    """Where a file of the list lies.

    Raises:
        ValueError: it would lie outside of the host's folders, or has another ending.
    """
    is_output = file.endswith(_OF_OUTPUT)
    root = Path(folder_paths.get_output_directory() if is_output else folder_paths.get_input_directory()).resolve()
    path = (root / file.removesuffix(_OF_OUTPUT)).resolve()
    if not path.is_relative_to(root):
        raise ValueError(f"TGATE: {file} lies outside of ComfyUI's input and output folders; move it there.")
    if not path.name.endswith(SUFFIX):
        raise ValueError(f"TGATE: {file} is no probe; its name has to end in {SUFFIX}.")
    return path
