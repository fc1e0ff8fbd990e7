"""Progress on the error stream: a line for each stage, and a live counter where there is a terminal."""

from __future__ import annotations

import shutil
import sys
import time

LIVE_SECONDS = 0.2
# Where the output is kept (a file, a CI log), a sign of life now and then is enough.
KEPT_SECONDS = 30.0
CLEAR_LINE = "\r\x1b[K"


class Stage:
    """One stage of a command, as a context manager; `update` may be called as often as is convenient."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._live = sys.stderr.isatty()
        self._start = self._shown = time.monotonic()

    def __enter__(self) -> Stage:
        self._write(f"{self.title} ...", ends_line=not self._live)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        outcome = "done in" if kind is None else "stopped after"
        self._write(f"{self.title}: {outcome} {self._elapsed()}", ends_line=True)

    def update(self, detail: str) -> None:
        """Shows what goes on now, if the last sign of life is long enough ago."""
        now = time.monotonic()
        if now - self._shown >= (LIVE_SECONDS if self._live else KEPT_SECONDS):
            self._shown = now
            title = f"{self.title} ..." if self._live else " "
            self._write(f"{title} {self._elapsed()}  {detail}", ends_line=not self._live)

    def echo(self, text: str) -> None:
        """Passes text through as it is, on lines of its own."""
        sys.stderr.write((CLEAR_LINE if self._live else "") + text)
        sys.stderr.flush()

    def _elapsed(self) -> str:
        minutes, seconds = divmod(round(time.monotonic() - self._start), 60)
        return f"{minutes}:{seconds:02}"

    def _write(self, line: str, ends_line: bool) -> None:
        if self._live:
            # A line that wraps could not be written over.
            line = CLEAR_LINE + line[: shutil.get_terminal_size().columns - 1]
        sys.stderr.write(line + ("\n" if ends_line else ""))
        sys.stderr.flush()


def say(line: str) -> None:
    """One line of progress that belongs to no stage."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
