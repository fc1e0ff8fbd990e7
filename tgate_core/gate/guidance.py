"""What remains of classifier-free guidance after the gate: one table of modes that everything else follows.

A denoised prediction is D = x - sigma * eps. The guidance difference D_cond - D_uncond shrinks with sigma, while the
difference of the noises, eps_uncond - eps_cond = (D_cond - D_uncond) / sigma, changes slowly from step to step: so it
is the latter that is held, and scaled by the current sigma.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass

from torch import Tensor

from ..engine.identity import COND, UNCOND, CondBatch
from ..engine.storage import detached, widened

NO_GUIDANCE = "cfg is 1: no second pass to save"
EMPTY_BRANCH = "guidance kept: a branch has no prompt in some steps"
SEVERAL_CONDS = "guidance kept: a branch has several conds, whose captures cannot be merged"
OTHER_BRANCHES = "guidance kept: the guider asks for other branches than one cond and one uncond"
BRANCHES_APART = "guidance kept: the guider asks for each branch in a pass of its own (as DualModelGuider does)"
NEEDED_BY_OTHERS = "guidance kept: another node evaluates the branch that would be dropped"


@dataclass(frozen=True)
class GuidanceMode:
    """One way to go on after the gate step.

    Attributes:
        name: as users choose it.
        summary: what it does, for tooltips and help.
        branch: the only branch that runs; None: all of them.
        merges_captures: whether that branch runs on the mean of both branches' captures (the paper's anchor).
        holds_difference: whether the prediction that is missing is made from the last guided step's difference; else
            it is the one that ran, which leaves no guidance.
    """

    name: str
    summary: str
    branch: int | None
    merges_captures: bool = False
    holds_difference: bool = False

    @property
    def drops_a_branch(self) -> bool:
        """Whether one branch runs in place of two."""
        return self.branch is not None

    @property
    def suits_joint_attention(self) -> bool:
        """Whether it drops a branch of models without separate cross-attention, and the prompt is still followed."""
        return self.branch == COND and not self.merges_captures

    def missing_prediction(self, survivor: Tensor, difference: Tensor | None, sigma: float) -> Tensor:
        """The prediction of the branch that did not run.

        Args:
            survivor: denoised prediction of the branch that ran, latent shape (B, C, ...).
            difference: what the last guided step left, see `noise_space_difference`; None where it left nothing.
            sigma: noise level of this call.
        """
        return survivor if difference is None else uncond_from_difference(survivor, difference, sigma)


KEEP = GuidanceMode("keep", "both passes as usual, slower", None)
MODES: dict[str, GuidanceMode] = {
    mode.name: mode
    for mode in (
        GuidanceMode("uncond", "as published, one pass without the prompt", UNCOND, merges_captures=True),
        GuidanceMode("cond", "one pass with the prompt", COND),
        GuidanceMode(
            "cond_mean",
            "the same, on attention averaged over both passes (as published for Stable Video Diffusion)",
            COND,
            merges_captures=True,
        ),
        GuidanceMode(
            "cached_delta",
            "one pass with the prompt, guided by the last prompt/negative difference; closest to the plain picture at "
            "the same cost",
            COND,
            holds_difference=True,
        ),
        KEEP,
    )
}


def effective_mode(
    wanted: GuidanceMode, batch: CondBatch, auxiliary_uuids: Collection[Hashable]
) -> tuple[GuidanceMode, str | None]:
    """The guidance mode that is safe for this cond batch, and why it is not the wanted one.

    Args:
        wanted: the user's choice.
        batch: the conds of this pass.
        auxiliary_uuids: conds that other nodes evaluated on their own in this run; they compare the outcome with the
            main pass, so the branch they belong to has to be a real prediction.
    """
    if wanted.branch is None:
        return KEEP, None
    if len(batch.branches) == 1:
        return KEEP, BRANCHES_APART
    if sum(branch is not None for branch in batch.branches) == 1:
        return KEEP, NO_GUIDANCE
    if len(batch.branches) != 2:
        return KEEP, OTHER_BRANCHES
    if not all(batch.branches):
        return KEEP, EMPTY_BRANCH
    if wanted.merges_captures and not batch.has_one_cond_each:
        return KEEP, SEVERAL_CONDS
    if not {cond.uuid for cond in batch.conds(wanted.branch)}.issuperset(auxiliary_uuids):
        return KEEP, NEEDED_BY_OTHERS
    return wanted, None


def noise_space_difference(cond: Tensor, uncond: Tensor, sigma: float) -> Tensor:
    """Guidance difference of one call, free of its noise level.

    Args:
        cond: denoised prediction of the cond branch, latent shape (B, C, ...).
        uncond: denoised prediction of the uncond branch, same shape.
        sigma: noise level of that call, above 0.

    Returns:
        The difference, same shape, in fp32 at least: half precision has no room for what a small sigma makes of it.
    """
    return (widened(detached(cond)) - detached(uncond)) / sigma


def uncond_from_difference(cond: Tensor, difference: Tensor, sigma: float) -> Tensor:
    """The uncond prediction that the held difference implies for a call that ran the cond branch alone.

    Args:
        cond: denoised prediction of the cond branch, latent shape (B, C, ...).
        difference: from `noise_space_difference`, same shape.
        sigma: noise level of this call.
    """
    return (cond - difference * sigma).to(cond.dtype)
