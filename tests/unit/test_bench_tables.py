"""The tables of the benchmark: which rows count as missed, and what is said about them."""

from __future__ import annotations

import dataclasses

import pytest

from tgate_dev.bench.published import PUBLISHED_ROWS, PublishedRow, Setting
from tgate_dev.bench.shapes import Macs
from tgate_dev.bench.tables import CountedRow, published_line, published_summary, usual_line
from tgate_dev.bench.unets import SD15
from tgate_dev.bench.usual import UsualRun

ROW = PublishedRow("SD-1.5", SD15, Setting(5, 3, 1, 2), 10.0)
MACS = Macs(linear=6 * 10**12, convolution=4 * 10**12, attention=2 * 10**12)


@pytest.mark.parametrize(("tera_macs", "is_off"), [(10.0, False), (10.009, False), (10.011, True), (9.989, True)])
def test_a_row_is_off_beyond_a_thousandth(tera_macs: float, is_off: bool) -> None:
    counted = CountedRow(ROW, tera_macs, MACS)
    assert counted.is_off == is_off
    assert published_line(counted).endswith(" OFF") == is_off
    assert f"{1 - is_off} of 1 rows" in published_summary([counted])


def test_a_line_has_the_schedule_and_both_conventions() -> None:
    line = published_line(CountedRow(ROW, 10.0, MACS))
    assert line.split() == ["SD-1.5", "5/3/1/2", "10.000", "10.000", "1.0000", "12.000"]


def test_a_number_that_counts_half_the_reuse_is_marked_and_explained() -> None:
    half = CountedRow(dataclasses.replace(ROW, reuse_counted=0.5), 10.0, MACS)
    assert published_line(half).endswith(" *")
    assert "half of what" in published_summary([half])
    assert "half of what" not in published_summary([CountedRow(ROW, 10.0, MACS)])


def test_a_run_without_reuse_keeps_its_gate() -> None:
    without = ROW.without_reuse()
    assert without is not None
    assert without.schedule == "5/1/1/2"
    assert without.without_reuse() is None
    assert dataclasses.replace(ROW, setting=None).without_reuse() is None


def test_each_published_number_is_there_once() -> None:
    names = [(row.name, row.schedule) for row in PUBLISHED_ROWS]
    assert len(names) == len(set(names))


def test_what_a_preset_saves_is_given_in_both_conventions() -> None:
    run = UsualRun("SD 1.5", "512 × 512", SD15, 25)
    line = usual_line(run, MACS, Macs(linear=3 * 10**12, convolution=2 * 10**12, attention=4 * 10**12))
    assert line.split()[-4:] == ["10.000", "5.000", "50.0%", "25.0%"]
