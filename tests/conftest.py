"""Puts a real ComfyUI on the path and loads the pack the way ComfyUI loads it."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parent
REPO = TESTS.parent
NEWEST_HOST_ALONE = ("newest", "random", "slow")
# What these guidance modes do, other modes do too as far as it meets the host: `cached_delta` goes on with one branch
# of two, and `keep` with both. On older ones those will do.
NEWEST_HOST_MODES = ("uncond", "cond", "cond_mean")


def _prepare_path() -> None:
    """ComfyUI first, so that its nodes.py is not shadowed by the pack's nodes/; the repository last."""
    comfyui = os.environ.get("TGATE_COMFYUI")
    if not comfyui:
        pytest.exit("TGATE_COMFYUI is not set: run the tests with `python3 tools/dev.py test`.", returncode=2)
    sys.path.insert(0, comfyui)
    sys.path.extend([str(TESTS / "support"), str(REPO)])


_prepare_path()

import comfy.options  # noqa: E402

comfy.options.args_parsing = False
import comfy.cli_args  # noqa: E402

comfy.cli_args.args.cpu = True
# What it takes on most graphics cards. Its other one for the CPU asks for free memory in each call.
comfy.cli_args.args.use_pytorch_cross_attention = True


import torch  # noqa: E402

# As in ComfyUI's main.py: its server puts a folder on the path later that holds another module of this name.
import utils.extra_config  # noqa: E402, F401

# The models here are so small that a second thread costs more than it brings. In a server beside another worker the two
# would mostly wait for each other: a step takes up to thirty times as long.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"


def pytest_report_header() -> str:
    return f"ComfyUI: {os.environ['TGATE_COMFYUI']}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks each test by its tier, before any are selected by mark."""
    for item in items:
        tier = item.path.relative_to(TESTS).parts[0]
        item.add_marker(tier)
        if (
            tier == "contract"
            and not any(map(item.get_closest_marker, NEWEST_HOST_ALONE))
            and not _is_for_newest_alone(item)
        ):
            item.add_marker("hosts")


def _is_for_newest_alone(item: pytest.Item) -> bool:
    """Whether a test is of a guidance mode that older hosts need not see."""
    chosen = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    return chosen.get("guidance") in NEWEST_HOST_MODES


def pytest_collection_finish() -> None:
    """What imports left is looked through in no collection of garbage any more: that took longer than most tests."""
    gc.collect()
    gc.freeze()


@dataclass(frozen=True)
class Pack:
    """The pack as ComfyUI sees it: its module, and its node classes by id."""

    module: ModuleType
    nodes: dict[str, type[Any]]

    def core(self, name: str) -> ModuleType:
        """A module of the pack's core as the running nodes use it, e.g. `core("engine.run")`."""
        return sys.modules[f"{self.module.__name__}.tgate_core.{name}"]


@pytest.fixture(scope="session")
def pack() -> Pack:
    import nodes as host_nodes

    before = set(host_nodes.NODE_CLASS_MAPPINGS)
    assert asyncio.run(host_nodes.load_custom_node(str(REPO))), "ComfyUI could not load the pack"
    added = {name: cls for name, cls in host_nodes.NODE_CLASS_MAPPINGS.items() if name not in before}
    module = next(m for m in list(sys.modules.values()) if getattr(m, "__file__", None) == str(REPO / "__init__.py"))
    return Pack(module, added)


@pytest.fixture
def gated(pack: Pack) -> Any:
    """Gate a model through the node: `gated(model, gate=4.0, …)`, with cheap defaults for short runs."""

    def apply(model: Any, **settings: Any) -> Any:
        chosen = {"gate": 4.0, "sp_interval": 1, "fi_interval": 1, "warm_up": 0, **settings}
        return pack.nodes["TGATEApplyAdvanced"].execute(model=model, **chosen).args[0]

    return apply


@pytest.fixture
def counts_of(pack: Pack) -> Any:
    """What was counted in the last run of a gated model: `counts_of(patched)`."""
    return lambda patched: pack.core("host.install").records_of(patched).last.counts


@pytest.fixture
def forecast(pack: Pack) -> Any:
    """Put Forecast on a model through the node, with shares for short runs: `forecast(model, strength=2, …)`."""

    def apply(model: Any, **settings: Any) -> Any:
        return pack.nodes["TGATEForecast"].execute(model=model, **{"start": 0.25, "end": 0.9, **settings}).args[0]

    return apply


@pytest.fixture
def deep(pack: Pack) -> Any:
    """Put DeepCache on a model through the node: `deep(model, cache_interval=3, …)`."""

    if not pack.core("host.unet_blocks").can_leave_out_layers():
        pytest.skip("this version of the host cannot leave out layers")

    def apply(model: Any, **settings: Any) -> Any:
        return pack.nodes["TGATEDeepCache"].execute(model=model, **settings).args[0]

    return apply
