"""DeepCache (arXiv 2312.00858): which steps run a whole UNet, and which blocks the steps between leave out.

What the deep blocks hand on to the shallow ones, the deep feature, changes slowly: a full step keeps it, and the steps
after it run the shallow blocks alone on what was kept.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..engine.actions import Action, drop_idle_captures
from ..engine.inputs import MAX_STEPS, number, whole_number
from ..engine.steps import round_half_up
from ..engine.technique import Depth

# More blocks than any UNet has: of a branch that a model lacks, its deepest is taken.
MAX_BRANCH = 1000
_SHARE = " (0.4 = after 40 % of the steps)"


@dataclass(frozen=True)
class DeepCacheConfig:
    """Settings of DeepCache; the names follow the published package (`DeepCache` 0.1.1).

    Attributes:
        cache_interval: one full step every N steps; 1 disables DeepCache.
        cache_branch_id: skip connection at which the network is cut, 0 for the outermost.
        start: share of the run's steps (0 to 1) before it begins.
        end: share of the run's steps (0 to 1) after which all run in full.

    Raises:
        ValueError: a value is of another type or out of range; the message names the input and says what to change.
    """

    cache_interval: int = 3
    cache_branch_id: int = 0
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        interval, branch = self.cache_interval, self.cache_branch_id
        checked: dict[str, float] = {
            "cache_interval": whole_number("cache_interval", interval, 1, MAX_STEPS, "use 1 to switch DeepCache off"),
            "cache_branch_id": whole_number("cache_branch_id", branch, 0, MAX_BRANCH, "use 0 for the fastest"),
            "start": number("start", self.start, 1, _SHARE),
            "end": number("end", self.end, 1, _SHARE),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def is_off(self) -> bool:
        """Whether no step of any run would be shallow."""
        return self.cache_interval == 1 or self.start >= self.end


@dataclass(frozen=True)
class DeepSchedule:
    """All steps of one run.

    Attributes:
        branch: skip connection at which the network is cut.
        steps: one depth a step.
        live: per step, whether a feature that exists when the step begins is still going to be reused.
    """

    branch: int
    steps: tuple[Depth, ...]
    live: tuple[bool, ...]

    @property
    def shallow(self) -> frozenset[int]:
        """Steps that do not run in full."""
        return frozenset(step for step, depth in enumerate(self.steps) if depth.action is Action.REUSE)


def build_deep_schedule(
    config: DeepCacheConfig, sigmas: Sequence[float], needs_full: Collection[int] = (), skipped: Collection[int] = ()
) -> DeepSchedule:
    """Lay out a run.

    Every `cache_interval`-th step in which the network runs is full, counted from the first in which DeepCache is on
    (and on through a gate, as in the published table). So are steps that other techniques need whole, and one whose
    noise rises (a restart), as what was kept belongs to less of it.

    Args:
        config: the settings.
        sigmas: the run's N + 1 noise levels.
        needs_full: steps that have to run whole.
        skipped: steps in which the network does not run.
    """
    steps = len(sigmas) - 1
    first, last = round_half_up(config.start * steps), round_half_up(config.end * steps)
    actions, cycles = [Action.COMPUTE] * steps, list(range(steps))
    ran = 0
    for step in range(first, last):
        if step in skipped:
            cycles[step] = cycles[step - 1]
            continue
        is_due, ran = ran % config.cache_interval == 0, ran + 1
        is_risen = sigmas[step] > sigmas[max(step - 1, 0)]
        is_full = is_due or is_risen or step in needs_full
        actions[step] = Action.CAPTURE if is_full else Action.REUSE
        cycles[step] = step if is_full else cycles[step - 1]
    kept, live = drop_idle_captures(actions)
    return DeepSchedule(
        branch=config.cache_branch_id,
        steps=tuple(Depth(action, cycle) for action, cycle in zip(kept, cycles, strict=True)),
        live=live,
    )


@dataclass(frozen=True)
class BlockSplit:
    """Which blocks of a UNet run in every step. The middle is never among them.

    Attributes:
        last_input: last input block that does; its output is the skip connection of `first_output`.
        first_output: first output block that does; what enters it, beside the skip connection, is the deep feature.
    """

    last_input: int
    first_output: int

    def is_deep(self, block: tuple[str, int]) -> bool:
        """Whether a block, by the host's name for it, runs in full steps alone."""
        side, index = block
        if side == "input":
            return index > self.last_input
        return side != "output" or index < self.first_output


def branch_count(blocks: int, has_middle: bool) -> int:
    """At how many skip connections a UNet can be cut so that something is left out.

    Args:
        blocks: number of its input blocks, and of its output blocks.
        has_middle: whether there is anything between them.
    """
    return blocks - 1 if has_middle else blocks - 2


def split_blocks(branch: int, blocks: int) -> BlockSplit:
    """The blocks on either side of a cut, published as block and layer of a level.

    Branch 0 leaves the first convolution and the block behind it, and the two last output blocks: the cut whose MACs
    were published.
    """
    return BlockSplit(last_input=branch + 1, first_output=blocks - 2 - branch)
