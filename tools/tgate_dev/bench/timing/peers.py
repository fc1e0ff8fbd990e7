"""Other packs' nodes, for those who have them at hand: which inputs give what T-GATE's rows are compared with.

Their code is no part of this project; what is known here of each is what its node's form in the editor shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .host_nodes import node_patch
from .records import Oracle, Row


@dataclass(frozen=True)
class GateAt:
    """The gate of the rows that share one.

    Attributes:
        step: the first step behind it.
        percent: the same as a share of the model's whole noise schedule.
        steps: of the run.
    """

    step: int
    percent: float
    steps: int


@dataclass(frozen=True)
class PeerNode:
    """A node of another pack.

    Attributes:
        pack: the repository's name, for people.
        inputs: makes those inputs that are not left as the editor shows them.
        oracle: what its gated steps are held against, if any.
    """

    pack: str
    inputs: Callable[[GateAt], dict[str, Any]]
    oracle: Oracle | None = None


_ONE_BRANCH_WITHOUT_TEXT = Oracle(frozenset({"attn2"}), branches=1)

PEER_NODES: dict[str, PeerNode] = {
    "TGateApplySimple": PeerNode(
        "JettHu/ComfyUI_TGate", lambda gate: {"start_at": gate.percent}, _ONE_BRANCH_WITHOUT_TEXT
    ),
    # The published interval, the shallowest branch.
    "DeepCache": PeerNode("ComfyUI-deepcache", lambda gate: {"cache_interval": 3, "cache_depth": 0}),
}


def load_pack(folder: Path) -> dict[str, type[Any]]:
    """The node classes of a pack by id, loaded as ComfyUI loads them; none where that fails."""
    import nodes

    before = dict(nodes.NODE_CLASS_MAPPINGS)
    if not asyncio.run(nodes.load_custom_node(str(folder))):
        return {}
    return {name: node for name, node in nodes.NODE_CLASS_MAPPINGS.items() if before.get(name) is not node}


def peer_rows(folders: Sequence[Path], gate: GateAt) -> tuple[list[Row], list[str]]:
    """A row for each known node of the packs in these folders, and what is to be said about the others."""
    rows: list[Row] = []
    remarks = []
    for folder in folders:
        classes = load_pack(folder) if folder.is_dir() else {}
        known = rows_of(classes, gate)
        rows.extend(known)
        if not classes:
            remarks.append(f"{folder.name}: ComfyUI could not load it as a pack; its reason is above.")
        elif not known:
            remarks.append(f"{folder.name}: none of its nodes is known here ({', '.join(sorted(classes))}).")
    return rows, remarks


def rows_of(classes: Mapping[str, type[Any]], gate: GateAt) -> list[Row]:
    """A row for each known node among these, by id."""
    return [
        Row(
            f"{PEER_NODES[name].pack}: {name}",
            node_patch(node, **PEER_NODES[name].inputs(gate)),
            PEER_NODES[name].oracle,
            is_foreign=True,
        )
        for name, node in classes.items()
        if name in PEER_NODES
    ]
