"""The published table as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .published import PublishedRow
from .rows import TOLERANCE
from .shapes import TERA, Macs


@dataclass(frozen=True)
class CountedRow:
    """A row of the published table, and what its run costs here."""

    row: PublishedRow
    macs: Macs

    @property
    def ratio(self) -> float:
        """Ours to the published number."""
        return self.macs.published / TERA / self.row.tera_macs

    @property
    def is_off(self) -> bool:
        """Whether that is further from 1 than rounding explains."""
        return abs(self.ratio - 1.0) > TOLERANCE


PUBLISHED_HEADING = f"{'10¹² MACs':18}{'schedule':>10}{'published':>12}{'ours':>12}{'ratio':>9}{'in full':>12}"


def published_line(counted: CountedRow) -> str:
    """One row of the published table; in full is with the products inside of attention, which the paper leaves out."""
    row, macs = counted.row, counted.macs
    mark = " OFF" if counted.is_off else ""
    return (
        f"{row.name:18}{row.schedule:>10}{row.tera_macs:>12.3f}{macs.published / TERA:>12.3f}{counted.ratio:>9.4f}"
        f"{macs.full / TERA:>12.3f}{mark}"
    )


def published_summary(counted: Sequence[CountedRow]) -> str:
    """What is to be said about all rows together."""
    off = sum(one.is_off for one in counted)
    return (
        "Schedules are gate / sp_interval / fi_interval / warm_up.\n"
        f"{len(counted) - off} of {len(counted)} rows are within {TOLERANCE:.1%} of the published number."
    )
