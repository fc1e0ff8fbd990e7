"""The table of published MACs: which rows count as missed, and what is said about them."""

from __future__ import annotations

import pytest

from tgate_core.host.macs import Macs
from tgate_dev.bench.models import SD15
from tgate_dev.bench.published import PUBLISHED_ROWS, USUAL, PublishedRow, Setting, is_off, line, summary

MACS = Macs(linear=6 * 10**12, convolution=4 * 10**12, attention=2 * 10**12)


def row(tera_macs: float) -> PublishedRow:
    return PublishedRow("SD-1.5", SD15, USUAL, Setting(5, 3, 1, 2), tera_macs)


@pytest.mark.parametrize(("tera_macs", "expected"), [(10.0, False), (10.009, False), (10.011, True), (9.989, True)])
def test_a_row_is_off_beyond_a_thousandth(tera_macs: float, expected: bool) -> None:
    assert is_off(row(tera_macs), MACS) == expected
    assert line(row(tera_macs), MACS).endswith(" OFF") == expected
    assert f"{1 - expected} of 1 rows" in summary([expected])


def test_a_line_has_the_schedule_and_both_conventions() -> None:
    assert line(row(10.0), MACS).split() == ["SD-1.5", "5/3/1/2", "10.000", "10.000", "1.0000", "12.000"]


def test_each_published_number_is_there_once() -> None:
    names = [(row.name, row.schedule) for row in PUBLISHED_ROWS]
    assert len(names) == len(set(names)) == 33
