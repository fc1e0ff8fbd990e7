"""Errors whose text is all that the user needs, and what they do to a command."""

from __future__ import annotations

import contextlib
import signal
import sys
import traceback
from collections.abc import Callable, Iterator

BAD_USE, INTERRUPTED, TERMINATED = 2, 130, 143


class UserError(Exception):
    """Something the user can put right; its text is a sentence that says what to do."""


def exit_code(command: Callable[[], int], is_verbose: bool = False) -> int:
    """The exit code of a command; after a UserError 2, with its text alone on the error stream."""
    # An exception, so that children are ended and half-made folders removed on the way out.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(TERMINATED))
    try:
        return command()
    except UserError as error:
        if is_verbose:
            traceback.print_exc()
        sys.stderr.write(f"{error}\n")
        return BAD_USE
    except KeyboardInterrupt:
        return INTERRUPTED


@contextlib.contextmanager
def cache_errors() -> Iterator[None]:
    """Turns a cache folder that cannot be used into advice.

    Raises:
        UserError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"The cache folder cannot be used ({error}): make it writable and see that there is room on its disk, "
            "or set TGATE_CACHE_DIR to another folder."
        ) from error
