"""The MACs table of the T-GATE papers (arXiv 2404.02747, versions 1 and 2), for the models that the pack supports."""

from __future__ import annotations

from dataclasses import dataclass

from .models import SD15, SD21, SDXL, FullSizeModel


@dataclass(frozen=True)
class Setting:
    """A schedule, in steps."""

    gate: int
    sp_interval: int
    fi_interval: int
    warm_up: int


@dataclass(frozen=True)
class PublishedRow:
    """One number of the table: a run, and its 10¹² MACs; `setting` None is the run without T-GATE."""

    name: str
    model: FullSizeModel
    setting: Setting | None
    tera_macs: float
    steps: int = 25
    cfg: float = 7.5
    sampler: str = "euler"
    scheduler: str = "normal"


def _lcm_row(setting: Setting | None, tera_macs: float) -> PublishedRow:
    return PublishedRow("LCM SD-XL", SDXL, setting, tera_macs, 4, 1.0, "lcm", "sgm_uniform")


PUBLISHED_ROWS = (
    PublishedRow("SD-1.5", SD15, None, 16.938),
    PublishedRow("SD-1.5", SD15, Setting(5, 1, 1, 0), 9.875),
    PublishedRow("SD-2.1", SD21, None, 38.041),
    PublishedRow("SD-2.1", SD21, Setting(5, 1, 1, 0), 22.208),
    PublishedRow("SD-XL", SDXL, None, 149.438),
    PublishedRow("SD-XL", SDXL, Setting(5, 1, 1, 0), 84.438),
    PublishedRow("SD-XL", SDXL, Setting(10, 5, 1, 2), 95.988),
    _lcm_row(None, 11.955),
    _lcm_row(Setting(1, 1, 1, 0), 11.171),
)
