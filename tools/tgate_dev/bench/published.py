"""The MACs table of the T-GATE papers (arXiv 2404.02747, versions 1 to 3), for the models that the pack supports."""

from __future__ import annotations

from dataclasses import dataclass

from .dits import PIXART_ALPHA, PIXART_SIGMA
from .models import FullSizeModel
from .unets import SD15, SD21, SDXL, SVD


@dataclass(frozen=True)
class Setting:
    """A schedule, in steps."""

    gate: int
    sp_interval: int
    fi_interval: int
    warm_up: int


@dataclass(frozen=True)
class PublishedRow:
    """One number of the table: a run, and its 10¹² MACs; `setting` None is the run without T-GATE.

    `has_deep_cache` is with DeepCache at interval 3, branch 0; its full steps keep their cadence through the gate.
    """

    name: str
    model: FullSizeModel
    setting: Setting | None
    tera_macs: float
    steps: int = 25
    cfg: float = 7.5
    sampler: str = "euler"
    scheduler: str = "normal"
    has_deep_cache: bool = False

    @property
    def schedule(self) -> str:
        """The setting in short, as it is written in tables."""
        setting = self.setting
        if setting is None:
            return "plain"
        return f"{setting.gate}/{setting.sp_interval}/{setting.fi_interval}/{setting.warm_up}"


def _lcm(name: str, model: FullSizeModel, setting: Setting | None, tera_macs: float) -> PublishedRow:
    return PublishedRow(name, model, setting, tera_macs, 4, 1.0, "lcm", "sgm_uniform")


# Not here: the rows of SVD that reuse self-attention before the gate. They hold half of the saving that the published
# package's own schedule makes there (it reuses spatial and temporal self-attention), so nothing can reproduce them.
PUBLISHED_ROWS = (
    PublishedRow("SD-1.5", SD15, None, 16.938),
    PublishedRow("SD-1.5", SD15, Setting(5, 1, 1, 0), 9.875),
    PublishedRow("SD-1.5", SD15, Setting(10, 1, 1, 0), 11.641),
    PublishedRow("SD-2.1", SD21, None, 38.041),
    PublishedRow("SD-2.1", SD21, Setting(5, 1, 1, 0), 22.208),
    PublishedRow("SD-2.1", SD21, Setting(10, 1, 1, 0), 26.166),
    PublishedRow("SD-XL", SDXL, None, 149.438),
    PublishedRow("SD-XL", SDXL, Setting(5, 1, 1, 0), 84.438),
    PublishedRow("SD-XL", SDXL, Setting(10, 1, 1, 0), 100.688),
    PublishedRow("SD-XL", SDXL, Setting(5, 3, 1, 1), 83.498),
    PublishedRow("SD-XL", SDXL, Setting(10, 3, 1, 2), 96.928),
    PublishedRow("SD-XL", SDXL, Setting(10, 5, 1, 2), 95.988),
    PublishedRow("SVD", SVD, None, 1609.25),
    PublishedRow("SVD", SVD, Setting(5, 1, 1, 0), 935.65),
    PublishedRow("SVD", SVD, Setting(10, 1, 1, 0), 1104.05),
    PublishedRow("PixArt-Alpha", PIXART_ALPHA, None, 107.031),
    PublishedRow("PixArt-Alpha", PIXART_ALPHA, Setting(8, 1, 1, 0), 65.318),
    PublishedRow("PixArt-Alpha", PIXART_ALPHA, Setting(10, 1, 1, 0), 70.225),
    PublishedRow("PixArt-Alpha", PIXART_ALPHA, Setting(15, 1, 1, 0), 82.494),
    PublishedRow("PixArt-Alpha", PIXART_ALPHA, Setting(10, 3, 1, 2), 65.355),
    PublishedRow("PixArt-Alpha", PIXART_ALPHA, Setting(10, 5, 1, 2), 64.138),
    PublishedRow("PixArt-Alpha", PIXART_ALPHA, Setting(15, 3, 1, 2), 73.971),
    PublishedRow("PixArt-Alpha", PIXART_ALPHA, Setting(15, 5, 1, 2), 71.536),
    PublishedRow("PixArt-Sigma", PIXART_SIGMA, None, 107.766),
    PublishedRow("PixArt-Sigma", PIXART_SIGMA, Setting(15, 3, 1, 2), 74.420),
    _lcm("LCM SD-XL", SDXL, None, 11.955),
    _lcm("LCM SD-XL", SDXL, Setting(1, 1, 1, 0), 11.171),
    _lcm("LCM SD-XL", SDXL, Setting(2, 1, 1, 0), 11.433),
    _lcm("LCM PixArt-Alpha", PIXART_ALPHA, None, 8.563),
    _lcm("LCM PixArt-Alpha", PIXART_ALPHA, Setting(1, 1, 1, 0), 7.623),
    _lcm("LCM PixArt-Alpha", PIXART_ALPHA, Setting(2, 1, 1, 0), 7.936),
    PublishedRow("DeepCache SD-XL", SDXL, None, 57.888, has_deep_cache=True),
    PublishedRow("DeepCache SD-XL", SDXL, Setting(13, 1, 1, 0), 43.868, has_deep_cache=True),
)
