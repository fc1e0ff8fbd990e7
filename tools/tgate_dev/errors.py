"""The one exception that is meant for the user's eyes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class UserError(Exception):
    """Something the user can put right; its text is a sentence that says what to do.

    The command line prints the text alone, without a traceback, and exits with code 2.
    """


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
