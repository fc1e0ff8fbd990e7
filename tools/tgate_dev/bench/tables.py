"""The measurements as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .published import PublishedRow
from .rows import TERA, TOLERANCE
from .shapes import Macs
from .usual import UsualRun


@dataclass(frozen=True)
class CountedRow:
    """A row of the published table, counted here.

    Attributes:
        row: the row.
        tera_macs: the row's number as the paper would have counted it, in 10¹².
        macs: what the run costs.
    """

    row: PublishedRow
    tera_macs: float
    macs: Macs

    @property
    def ratio(self) -> float:
        """Ours to the published number."""
        return self.tera_macs / self.row.tera_macs

    @property
    def is_off(self) -> bool:
        """Whether that is further from 1 than rounding explains."""
        return abs(self.ratio - 1.0) > TOLERANCE


PUBLISHED_HEADING = f"{'10¹² MACs':18}{'schedule':>10}{'published':>12}{'ours':>12}{'ratio':>9}{'in full':>12}"
USUAL_HEADING = f"{'10¹² MACs':28}{'one run makes':24}{'steps':>5}{'plain':>12}{'gated':>12}{'saved':>8}{'in full':>9}"


def published_line(counted: CountedRow) -> str:
    """One row of the published table; in full is with the products inside of attention, which the paper leaves out."""
    row = counted.row
    note = " *" if row.reuse_counted < 1.0 else ""
    mark = " OFF" if counted.is_off else ""
    return (
        f"{row.name:18}{row.schedule:>10}{row.tera_macs:>12.3f}{counted.tera_macs:>12.3f}{counted.ratio:>9.4f}"
        f"{counted.macs.full / TERA:>12.3f}{note}{mark}"
    )


def published_summary(counted: Sequence[CountedRow]) -> str:
    """What is to be said about all rows together."""
    lines = ["Schedules are gate / sp_interval / fi_interval / warm_up."]
    if any(one.row.reuse_counted < 1.0 for one in counted):
        lines.append("* with half of what the reuse of self-attention saves here: the published numbers hold no more.")
    off = sum(one.is_off for one in counted)
    lines.append(f"{len(counted) - off} of {len(counted)} rows are within {TOLERANCE:.1%} of the published number.")
    return "\n".join(lines)


def usual_line(run: UsualRun, plain: Macs, gated: Macs) -> str:
    """What the preset saves in one run: of layers, as the papers count, and in full."""
    return (
        f"{run.name:28}{run.output:24}{run.steps:>5}{plain.published / TERA:>12.3f}{gated.published / TERA:>12.3f}"
        f"{1.0 - gated.published / plain.published:>8.1%}{1.0 - gated.full / plain.full:>9.1%}"
    )
