"""Checks of what is given: what converts without surprise is taken, all else is named."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from tgate_core.engine.inputs import choice, number, shown, switch, whole_number

NO_NUMBERS: list[Any] = ["3", "", None, [3], (3,), {}, True, False, 3j, b"3", torch.tensor(3), np.array([3]), object()]
# Some of the values are too long to be their tests' names.
by_type = {"ids": lambda value: value if isinstance(value, str) and len(value) < 30 else type(value).__name__}


@pytest.mark.parametrize("value", [3, 3.0, np.int64(3), np.uint8(3), np.float32(3), np.float64(3), Fraction(3)])
def test_a_number_of_any_kind_becomes_pythons_own(value: Any) -> None:
    for found, kind in ((number("gate", value, 10), float), (whole_number("warm_up", value, 0, 10, "use 0"), int)):
        assert found == 3
        assert type(found) is kind


@pytest.mark.parametrize("value", NO_NUMBERS, **by_type)
def test_what_is_no_number_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^TGATE: gate is .+; set it between 0 and 10 \(hint\)\.$"):
        number("gate", value, 10, " (hint)")
    with pytest.raises(ValueError, match=r"^TGATE: warm_up is .+, but must be a whole number; use 0\.$"):
        whole_number("warm_up", value, 0, 10, "use 0")


@pytest.mark.parametrize(
    "value", [-0.1, 10.1, math.inf, -math.inf, math.nan, 10**400, -(10**400), np.float32("nan")], **by_type
)
def test_numbers_out_of_range_are_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^TGATE: gate is .{1,40}; set it between 0 and 10\.$"):
        number("gate", value, 10)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (-1, "0 or more; use 0"),
        (-(10**5000), "0 or more; use 0"),
        (11, "10 or less; lower it"),
        (10**5000, "10 or less; lower it"),
        (math.inf, "10 or less; lower it"),
        (2.5, "a whole number; use 0"),
        (math.nan, "a whole number; use 0"),
    ],
    **by_type,
)
def test_a_count_is_whole_and_within_its_range(value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=rf"^TGATE: warm_up is .{{1,40}}, but must be {words}\.$"):
        whole_number("warm_up", value, 0, 10, "use 0")


@pytest.mark.parametrize("value", [0, 1, "true", None, [], np.bool_(True), torch.tensor(True)])
def test_a_switch_is_true_or_false_alone(value: Any) -> None:
    assert switch("self_attention", True) is True
    with pytest.raises(ValueError, match=r"^TGATE: self_attention is .+, but must be true or false\.$"):
        switch("self_attention", value)


@pytest.mark.parametrize(
    "value", ["c", "", None, 1, ["a"], {"a": 1}, np.array(["a", "b"]), torch.zeros(2), "a" * 10**7]
)
def test_a_choice_is_one_of_its_words(value: Any) -> None:
    assert choice("guidance", "a", ("a", "b")) == "a"
    with pytest.raises(ValueError, match=r"^TGATE: guidance is .{1,80}; choose one of: a, b\.$"):
        choice("guidance", value, ("a", "b"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("soon", "'soon'"),
        ("x" * 61, repr("x" * 60) + "..."),
        (2.5, "2.5"),
        (True, "True"),
        (None, "None"),
        (10**5000, "a number of more than 19 digits"),
        ([1] * 10**6, "a list"),
        (torch.zeros(10**6), "a Tensor"),
        (np.zeros(3), "a ndarray"),
    ],
    **by_type,
)
def test_a_value_is_quoted_in_short(value: Any, text: str) -> None:
    assert shown(value) == text
