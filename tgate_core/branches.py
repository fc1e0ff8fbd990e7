"""Which guidance branch may be dropped after the gate."""

from __future__ import annotations

from collections.abc import Collection, Hashable

from .config import Guidance
from .reasons import NO_GUIDANCE
from .request import COND, UNCOND, PassRequest

SEVERAL_CONDS = "guidance kept: a branch has several conds, whose captures cannot be merged"
EMPTY_BRANCH = "guidance kept: a branch has no prompt in some steps"
OTHER_BRANCHES = "guidance kept: the guider asks for other branches than one cond and one uncond"
NEEDED_BY_OTHERS = "guidance kept: another node evaluates the branch that would be dropped"
CACHE_FULL = "guidance kept: cache_limit_mb leaves no room for the captures that replace it"
NOT_MERGED = "guidance kept: the captures of cond and uncond do not fit together"


def surviving_branch(guidance: Guidance) -> int | None:
    """The only branch that runs after the gate; None when all do."""
    if guidance == "keep":
        return None
    return UNCOND if guidance == "uncond" else COND


def is_merged(guidance: Guidance) -> bool:
    """Whether the captures of cond and uncond are merged into their mean after the gate."""
    return guidance in ("uncond", "cond_mean")


def effective_guidance(
    wanted: Guidance, request: PassRequest, auxiliary_uuids: Collection[Hashable]
) -> tuple[Guidance, str | None]:
    """The guidance mode that is safe for this pass, and why it is not the wanted one.

    Args:
        wanted: the user's choice.
        request: the pass at hand.
        auxiliary_uuids: conds that other nodes evaluated on their own in this run; they compare the outcome with the
            main pass, so the branch they belong to has to be a real prediction.
    """
    survivor = surviving_branch(wanted)
    if survivor is None:
        return "keep", None
    if sum(branch is not None for branch in request.branches) == 1:
        return "keep", NO_GUIDANCE
    if len(request.branches) != 2:
        return "keep", OTHER_BRANCHES
    if not all(request.branches):
        return "keep", EMPTY_BRANCH
    if is_merged(wanted) and not request.has_one_cond_each:
        return "keep", SEVERAL_CONDS
    if not {cond.uuid for cond in request.conds(survivor)}.issuperset(auxiliary_uuids):
        return "keep", NEEDED_BY_OTHERS
    return wanted, None
