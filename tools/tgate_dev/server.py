"""A real ComfyUI server for the time of a `with`: its own folders, a free loopback port, nothing left running."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

HOST = "127.0.0.1"
START_SECONDS = 240.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.2
# With it Python leaves main.py's own folder out of the search path; PYTHONPATH is for our own programs.
NOT_FOR_THE_SERVER = ("PYTHONSAFEPATH", "PYTHONPATH")
COLORS = re.compile(r"\x1b\[[0-9;]*m")


class ServerError(Exception):
    """The server did not start, ended on its own, or refused what it was asked; the text says what it wrote last."""


def nothing_to_show(seconds: float) -> None:
    """Default of `Server.on_wait`."""


@dataclass
class Server:
    """A ComfyUI server that runs while the `with` does.

    Attributes:
        python: interpreter that has the host's requirements.
        comfyui: the folder that holds main.py.
        base: a folder of this server's own: models, custom nodes, input, output, user and temporary files lie in it.
        log: file for everything the server writes.
        custom_nodes: folders to install as custom nodes, by the name each gets; no others are loaded.
        model_folders: further folders with models, by the host's kind of model ("checkpoints", "loras", …).
        arguments: further command line arguments.
        variables: environment variables of the server.
        on_wait: called now and then while the server starts, with the seconds so far.
    """

    python: Path
    comfyui: Path
    base: Path
    log: Path
    custom_nodes: Mapping[str, Path]
    model_folders: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    arguments: Sequence[str] = ()
    variables: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    on_wait: Callable[[float], None] = nothing_to_show
    port: int = field(default=0, init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def address(self) -> str:
        """Where the server listens, as in http://127.0.0.1:8188."""
        return f"http://{HOST}:{self.port}"

    @property
    def output(self) -> Path:
        """Where the server saves pictures."""
        return self.base / "output"

    def __enter__(self) -> Server:
        self.start()
        return self

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            ServerError: it ended, or did not answer in time.
        """
        self._install()
        self.port = free_port()
        try:
            with self.log.open("wb") as sink:
                self._process = self._start(sink)
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server and everything it started; harmless when it has ended already."""
        process, self._process = self._process, None
        if process is None:
            return
        for number in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
            _signal_group(process, number)
            try:
                process.wait(STOP_SECONDS)
                return
            except subprocess.TimeoutExpired:
                continue

    def get_json(self, path: str) -> Any:
        """What the server answers to a GET, as in get_json("/object_info")."""
        with urllib.request.urlopen(self.address + path, timeout=60) as answer:
            return json.load(answer)

    def check_running(self) -> None:
        """Raise ServerError if the server has ended on its own."""
        if self._process is None or self._process.poll() is not None:
            raise ServerError(f"The ComfyUI server ended: {self.last_words()}")

    def last_words(self, lines: int = 3) -> str:
        """The end of the log, for an error message."""
        text = COLORS.sub("", self.log.read_text(encoding="utf-8", errors="replace"))
        return " / ".join([line.strip() for line in text.splitlines() if line.strip()][-lines:])

    def _install(self) -> None:
        for name in ("custom_nodes", "input", "output", "user", "temp", "models/checkpoints"):
            (self.base / name).mkdir(parents=True, exist_ok=True)
        for name, folder in self.custom_nodes.items():
            link_or_copy(folder, self.base / "custom_nodes" / name)

    def _start(self, sink: BinaryIO) -> subprocess.Popen[bytes]:
        variables = {name: value for name, value in self.variables.items() if name not in NOT_FOR_THE_SERVER}
        return subprocess.Popen(
            self._command(),
            cwd=self.comfyui,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            # A group of its own: an interrupt from the keyboard reaches this process alone, which then ends the group.
            start_new_session=True,
        )

    def _command(self) -> list[str]:
        options = {
            "--listen": HOST,
            "--port": str(self.port),
            "--base-directory": str(self.base),
            # The default lies in the tree, whatever the base directory, and is locked by a server that runs there.
            "--database-url": f"sqlite:///{(self.base / 'user' / 'comfyui.db').as_posix()}",
            "--extra-model-paths-config": str(self._model_paths()),
        }
        flags = ["--disable-auto-launch", "--disable-api-nodes", "--disable-all-custom-nodes"]
        return [
            str(self.python),
            str(self.comfyui / "main.py"),
            *(part for option in options.items() for part in option),
            *flags,
            "--whitelist-custom-nodes",
            *self.custom_nodes,
            *self.arguments,
        ]

    def _model_paths(self) -> Path:
        # JSON is YAML too, and has no trouble with any path.
        sections = {
            f"folder{index}_{kind}": {kind: str(folder)}
            for kind, folders in self.model_folders.items()
            for index, folder in enumerate(folders)
        }
        path = self.base / "extra_model_paths.yaml"
        path.write_text(json.dumps(sections), encoding="utf-8")
        return path

    def _wait_until_ready(self) -> None:
        start = time.monotonic()
        while True:
            self.check_running()
            waited = time.monotonic() - start
            if self._answers():
                return
            if waited > START_SECONDS:
                raise ServerError(f"The ComfyUI server did not start in {START_SECONDS:.0f} s: {self.last_words()}")
            self.on_wait(waited)
            time.sleep(POLL_SECONDS)

    def _answers(self) -> bool:
        try:
            self.get_json("/system_stats")
        except (urllib.error.URLError, OSError, json.JSONDecodeError):
            return False
        return True


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def link_or_copy(folder: Path, link: Path) -> None:
    """Make `folder` visible at `link`: a symbolic link, or a copy where the system does not let users make links."""
    try:
        link.symlink_to(folder.resolve(), target_is_directory=True)
    except OSError:
        shutil.copytree(folder, link, ignore=shutil.ignore_patterns(".git", "__pycache__", "demo-output"))


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    if not hasattr(os, "killpg"):
        process.terminate()
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
