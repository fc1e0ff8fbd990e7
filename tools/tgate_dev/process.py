"""Child processes of the set-up: their output goes to a log, and they do not outlive an interrupted parent."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from .progress import Stage

POLL_SECONDS = 0.1
TERMINATION_SECONDS = 10.0


class CommandFailed(Exception):  # noqa: N818 - it is caught and turned into a sentence for the user
    """A child process ended with an error; `output` is all it wrote."""

    def __init__(self, command: Sequence[str], code: int, output: str) -> None:
        super().__init__(f"exit code {code}: {' '.join(command)}")
        self.output = output


def nothing_to_tell(new_output: str) -> str:
    """The description of a command whose output says nothing about how far it is."""
    return ""


@dataclass(frozen=True)
class Runner:
    """Runs commands, one after the other, into one log file.

    Attributes:
        log: the file that all output is appended to.
        verbose: whether the output is also shown as it comes.
        lock: descriptor of the held cache lock, handed down to each child (see `cache.locked`).
    """

    log: Path
    verbose: bool
    lock: int

    def run(
        self,
        command: Sequence[str],
        stage: Stage,
        describe: Callable[[str], str] = nothing_to_tell,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """Runs one command to its end.

        Args:
            command: program and arguments.
            stage: where progress is shown.
            describe: called again and again with what the command wrote since; returns what to show beside the clock.
            variables: the child's environment; this process's own when None.

        Raises:
            CommandFailed: the exit code is not 0.
        """
        with self.log.open("ab") as sink, self.log.open("rb") as source:
            sink.write(f"$ {' '.join(command)}\n".encode())
            sink.flush()
            source.seek(0, os.SEEK_END)
            with self._started(command, sink, variables) as process:
                output = self._follow(process, source, stage, describe)
        if process.returncode != 0:
            raise CommandFailed(command, process.returncode, output)

    @classmethod
    def fresh(cls, log: Path, verbose: bool, lock: int) -> Runner:
        """A runner whose log starts empty."""
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)
        return cls(log, verbose, lock)

    @contextlib.contextmanager
    def _started(
        self, command: Sequence[str], sink: BinaryIO, variables: Mapping[str, str] | None
    ) -> Iterator[subprocess.Popen[bytes]]:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=None if variables is None else dict(variables),
            # Windows cannot hand descriptors down this way; there, files in use cannot be removed in the first place.
            pass_fds=(self.lock,) if os.name == "posix" else (),
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                _end(process)

    def _follow(
        self, process: subprocess.Popen[bytes], source: BinaryIO, stage: Stage, describe: Callable[[str], str]
    ) -> str:
        output = ""
        while True:
            # Asked before reading, so that the last read is after the last write.
            has_ended = process.poll() is not None
            new = source.read().decode(errors="replace")
            output += new
            detail = describe(new)
            if self.verbose:
                stage.echo(new)
            else:
                stage.update(detail)
            if has_ended:
                return output
            time.sleep(POLL_SECONDS)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(TERMINATION_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
