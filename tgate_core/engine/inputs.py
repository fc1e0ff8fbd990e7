"""Checks of what a user, a link or a query gives: of the right type and within its range, or named in the error.

What converts without surprise is taken: whole numbers for floats, 3.0 for 3, NumPy's numbers. Neither strings nor
tensors are numbers here, and neither is a bool, which is how a wrong link looks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, TypeVar

Choice = TypeVar("Choice", bound=str)

# What any setting may be at most: steps of a run, and MiB of memory.
MAX_STEPS = 10000
MAX_MIB = 1048576
# Errors end up in a dialogue and in the log: what is quoted there is cut to this many characters.
MOST_QUOTED = 60
MOST_QUOTED_BITS = 64


def shown(value: Any) -> str:
    """A value as an error quotes it: short, whatever it is; of what has no short form, the type alone."""
    if isinstance(value, str):
        return repr(value[:MOST_QUOTED]) + ("..." if len(value) > MOST_QUOTED else "")
    if isinstance(value, int) and value.bit_length() > MOST_QUOTED_BITS:
        return "a number of more than 19 digits"
    if value is None or isinstance(value, Real):
        return str(value)
    name = type(value).__name__[:MOST_QUOTED]
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def number(name: str, value: Any, most: float, hint: str = "") -> float:
    """A number from 0 to `most`.

    Raises:
        ValueError: it is something else; `hint` follows the range in the message.
    """
    found = _number(value)
    if found is None or not 0.0 <= found <= most:  # as "not a number" never is
        raise ValueError(f"TGATE: {name} is {shown(value)}; set it between 0 and {most:g}{hint}.")
    return found


def whole_number(name: str, value: Any, least: int, most: int, remedy: str) -> int:
    """A whole number from `least` to `most`.

    Raises:
        ValueError: it is something else.
    """
    found = _number(value)
    if found is not None and found < least:
        raise ValueError(f"TGATE: {name} is {shown(value)}, but must be {least} or more; {remedy}.")
    if found is not None and found > most:
        raise ValueError(f"TGATE: {name} is {shown(value)}, but must be {most} or less; lower it.")
    if found is None or not found.is_integer():
        raise ValueError(f"TGATE: {name} is {shown(value)}, but must be a whole number; {remedy}.")
    return int(found)


def switch(name: str, value: Any) -> bool:
    """True or false; no number, as that may be a wrong link.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, bool):
        raise ValueError(f"TGATE: {name} is {shown(value)}, but must be true or false.")
    return value


def choice(name: str, value: Any, choices: Sequence[Choice]) -> Choice:
    """One of `choices`.

    Raises:
        ValueError: it is something else.
    """
    # The type first: arrays compare value by value.
    found = next((one for one in choices if value == one), None) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f"TGATE: {name} is {shown(value)}; choose one of: {', '.join(choices)}.")
    return found


def _number(value: Any) -> float | None:
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number:
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value >= 0 else -math.inf
