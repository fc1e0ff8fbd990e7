"""A real ComfyUI server for the time of a `with`: folders of its own, a free loopback port, nothing left running."""

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
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .environment import PACK
from .errors import UserError

HOST = "127.0.0.1"
START_SECONDS = 240.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.2
PACK_NAME = "comfyui-tgate-nodes"
# The first keeps main.py's folder off Python's path; the second is for our own programs.
NOT_FOR_THE_SERVER = ("PYTHONSAFEPATH", "PYTHONPATH")
LAST_LINES = 3  # of the log, in an error message
COLORS = re.compile(r"\x1b\[[0-9;]*m")


class ServerError(UserError):
    """The server did not start, ended, or refused a request; the text says what it wrote last."""


@dataclass
class Server:
    """A ComfyUI server that runs while the `with` does."""

    python: Path  # has the host's requirements
    comfyui: Path  # the folder of main.py
    folder: Path  # the server's own, for all its files
    custom_nodes: Mapping[str, Path] = field(default_factory=lambda: {PACK_NAME: PACK})  # all that are loaded
    model_folders: Mapping[str, Sequence[Path]] = field(default_factory=dict)  # more, by "checkpoints", "loras", …
    arguments: Sequence[str] = ("--cpu",)
    variables: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    log: Path | None = None  # for all that it writes; server.log in `folder` if not given
    on_wait: Callable[[], None] = lambda: None  # called while it starts
    port: int = field(default=0, init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def address(self) -> str:
        """URL of the server."""
        return f"http://{HOST}:{self.port}"

    @property
    def base(self) -> Path:
        """ComfyUI's base directory: `models`, `input`, `output`, `user` and so on."""
        return self.folder / "comfyui"

    @property
    def output(self) -> Path:
        """Saved pictures."""
        return self.base / "output"

    def __enter__(self) -> Server:
        """Start and wait until the server answers.

        Raises:
            ServerError: it ended, or did not answer in time.
        """
        for name in ("custom_nodes", "input", "output", "user", "temp", "models/checkpoints"):
            (self.base / name).mkdir(parents=True, exist_ok=True)
        for name, folder in self.custom_nodes.items():
            link_or_copy(folder, self.base / "custom_nodes" / name)
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port = probe.getsockname()[1]
        try:
            self._start()
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End the server and everything it started."""
        process, self._process = self._process, None
        if process is None:
            return
        for name in ("SIGTERM", "SIGKILL"):
            if os.name == "posix":
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.Signals[name])
            else:
                process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
                return

    def get_json(self, path: str) -> Any:
        """The answer to a GET, as in get_json("/object_info")."""
        with urllib.request.urlopen(self.address + path, timeout=60) as answer:
            return json.load(answer)

    def check_running(self) -> None:
        """Raises ServerError if the server has ended on its own."""
        if self._process is None or self._process.poll() is not None:
            raise ServerError(f"The ComfyUI server ended: {self._last_words()}")

    def written(self) -> str:
        """The log so far."""
        return COLORS.sub("", self._log.read_text(encoding="utf-8", errors="replace"))

    def _last_words(self) -> str:
        return " / ".join([line.strip() for line in self.written().splitlines() if line.strip()][-LAST_LINES:])

    @property
    def _log(self) -> Path:
        return self.log or self.folder / "server.log"

    def _start(self) -> None:
        # JSON is YAML, too, and takes any path.
        folders = [(kind, str(folder)) for kind, folders in self.model_folders.items() for folder in folders]
        sections = {f"section{index}": {kind: folder} for index, (kind, folder) in enumerate(folders)}
        model_paths = self.folder / "extra_model_paths.yaml"
        model_paths.write_text(json.dumps(sections), encoding="utf-8")
        # The default database lies in the tree and is locked by a server that runs there.
        database = f"sqlite:///{(self.base / 'user' / 'comfyui.db').as_posix()}"
        program = [str(self.python), str(self.comfyui / "main.py"), "--listen", HOST, "--port", str(self.port)]
        program += ["--base-directory", str(self.base), "--database-url", database]
        program += ["--extra-model-paths-config", str(model_paths), "--disable-auto-launch", "--disable-api-nodes"]
        program += ["--disable-all-custom-nodes", "--whitelist-custom-nodes", *self.custom_nodes, *self.arguments]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                program,
                cwd=self.comfyui,
                env={name: value for name, value in self.variables.items() if name not in NOT_FOR_THE_SERVER},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A group of its own: Ctrl+C reaches this process alone, which then ends the group.
                start_new_session=True,
            )

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + START_SECONDS
        while True:
            self.check_running()
            with contextlib.suppress(OSError, json.JSONDecodeError):
                self.get_json("/system_stats")
                return
            if time.monotonic() > end:
                raise ServerError(f"The ComfyUI server did not start in {START_SECONDS:.0f} s: {self._last_words()}")
            self.on_wait()
            time.sleep(POLL_SECONDS)


def link_or_copy(folder: Path, link: Path) -> None:
    """Make `folder` visible at `link`: a symbolic link, or a copy where users may make none."""
    try:
        link.symlink_to(folder.resolve(), target_is_directory=True)
    except OSError:
        shutil.copytree(folder, link, ignore=shutil.ignore_patterns(".git", "__pycache__", "demo-output"))
