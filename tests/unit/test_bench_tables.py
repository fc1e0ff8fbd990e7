"""The tables of the benchmark: which rows count as missed, and what is said about them."""

from __future__ import annotations

import pytest

from tgate_dev.bench.published import PUBLISHED_ROWS, PublishedRow, Setting
from tgate_dev.bench.shapes import Macs
from tgate_dev.bench.tables import CountedRow, published_line, published_summary
from tgate_dev.bench.unets import SD15

MACS = Macs(linear=6 * 10**12, convolution=4 * 10**12, attention=2 * 10**12)


def row(tera_macs: float) -> PublishedRow:
    return PublishedRow("SD-1.5", SD15, Setting(5, 3, 1, 2), tera_macs)


@pytest.mark.parametrize(("tera_macs", "is_off"), [(10.0, False), (10.009, False), (10.011, True), (9.989, True)])
def test_a_row_is_off_beyond_a_thousandth(tera_macs: float, is_off: bool) -> None:
    counted = CountedRow(row(tera_macs), MACS)
    assert counted.is_off == is_off
    assert published_line(counted).endswith(" OFF") == is_off
    assert f"{1 - is_off} of 1 rows" in published_summary([counted])


def test_a_line_has_the_schedule_and_both_conventions() -> None:
    line = published_line(CountedRow(row(10.0), MACS))
    assert line.split() == ["SD-1.5", "5/3/1/2", "10.000", "10.000", "1.0000", "12.000"]


def test_each_published_number_is_there_once() -> None:
    names = [(row.name, row.schedule) for row in PUBLISHED_ROWS]
    assert len(names) == len(set(names))
