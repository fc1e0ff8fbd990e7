"""What a technique is asked in a sampling run. Gate, DeepCache and probe are such techniques; none knows the others.

A node puts a frozen `Technique` on a model. When a run starts, each of them begins a `TechniqueRun`, which lives as
long as the run. Two things tie techniques together, and both are here: the exchange of a `Layout` before the first
step, and the order in which they refine one `BatchPlan` (and, in reverse, the predictions that come of it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from .actions import ATTENTION_KINDS, Action, AttentionKind, CaptureKind
from .identity import CondBatch, CondKey, Place
from .storage import CacheSettings

if TYPE_CHECKING:
    from .cache import CaptureCache
    from .counts import RunCounts
    from .forward import ForwardCall


@dataclass(frozen=True)
class Depth:
    """How deep the network runs in one step.

    Attributes:
        action: CAPTURE: all of it, and the deep feature is kept; REUSE: the shallow blocks on what was kept; COMPUTE:
            all of it, as ever.
        cycle: the full step up to this one. What was kept counts until the next full step, even if that never comes.
    """

    action: Action
    cycle: int


def _compute_all() -> Mapping[AttentionKind, Action]:
    return dict.fromkeys(ATTENTION_KINDS, Action.COMPUTE)


@dataclass(frozen=True)
class BatchPlan:
    """What happens to one cond batch. As made, everything is computed as usual.

    Attributes:
        batch: the conds, as the sampler asks for them.
        step: the step that it belongs to.
        actions: what happens to each kind of attention.
        site_actions: what happens to some cross-attentions instead, by `Site.name`.
        branch: the only branch that runs, None for all that are asked for.
        uses_merged_captures: whether that branch runs on the mean of both branches' captures.
        captured_branch: the only branch whose captures are kept, None for all that run.
        is_relied_on: whether passes that run one branch alone will build on this one; it runs whole.
        depth: how deep the network runs; None: leave the depth unchanged.
        is_observed: whether a technique looks at what attentions give, see `ForwardCall.observers`.
        runs_network: whether the network runs at all; if not, a technique makes the predictions in `finish`.
        is_repeated: whether it replaces a plan whose merged captures were incomplete.
    """

    batch: CondBatch
    step: int = 0
    actions: Mapping[AttentionKind, Action] = field(default_factory=_compute_all)
    site_actions: Mapping[str, Action] = field(default_factory=dict)
    branch: int | None = None
    uses_merged_captures: bool = False
    captured_branch: int | None = None
    is_relied_on: bool = False
    depth: Depth | None = None
    is_observed: bool = False
    runs_network: bool = True
    is_repeated: bool = False

    @property
    def plain_share(self) -> float:
        """How many conds would run in the plain run for each that runs here."""
        if self.branch is None:
            return 1.0
        return len(self.batch.pair) / max(1, len(self.batch.conds(self.branch)))

    @property
    def is_idle(self) -> bool:
        """Whether its network calls neither capture nor reuse anything, and no technique observes them."""
        is_deep_idle = self.depth is None or self.depth.action is Action.COMPUTE
        actions = (*self.actions.values(), *self.site_actions.values())
        return not self.is_observed and is_deep_idle and all(action is Action.COMPUTE for action in actions)


@dataclass(frozen=True)
class FinishedBatch:
    """A cond batch that ran.

    Attributes:
        plan: what was done.
        x: the noisy latent, (B, C, ...).
        sigma: its noise level.
        has_run: whether the network made the predictions. False where another node, or a technique, guessed them:
            a guess is no baseline.
    """

    plan: BatchPlan
    x: Tensor
    sigma: float
    has_run: bool = True


@dataclass(frozen=True)
class Layout:
    """What techniques tell each other before the first step.

    Attributes:
        needs_full: steps that some technique needs to run whole.
        shallow: steps in which some technique leaves out part of the network, or all of it.
        skipped: those of them in which the network does not run.
        is_plain: whether no technique saves anything in this run.
        is_settled: False in the rounds before the last, in which `is_plain` does not count yet.
    """

    needs_full: frozenset[int] = frozenset()
    shallow: frozenset[int] = frozenset()
    skipped: frozenset[int] = frozenset()
    is_plain: bool = True
    is_settled: bool = True


@dataclass
class RunContext:
    """What a run is about, for techniques that begin.

    Attributes:
        sigmas: its N + 1 noise levels.
        has_guidance: whether one branch guides another (cfg other than 1).
        cache: its captures.
        counts: what it did, and why not more.
        settings: where captures are to live.
        store: decides where tensors that outlive a step are kept, see `CaptureStorage`.
        percent_to_sigma: the model's map from a share of its whole noise schedule (0 to 1) to sigma.
        network: class of the network.
        signature: gives what tells networks of that class apart.
        sampler: name of the host's sampler, "" for any other and for one with settings that add noise.
        step_cache: name of another node that guesses whole steps on this model, "" where there is none.
        auxiliary_uuids: conds that other nodes evaluated on their own so far.
    """

    sigmas: tuple[float, ...]
    has_guidance: bool
    cache: CaptureCache
    counts: RunCounts
    store: Callable[[Tensor], Tensor]
    settings: CacheSettings = field(default_factory=CacheSettings)
    percent_to_sigma: Callable[[float], float] = lambda percent: 1.0 - percent
    network: str = ""
    signature: Callable[[], str] = str
    sampler: str = ""
    step_cache: str = ""
    auxiliary_uuids: set[object] = field(default_factory=set)

    @property
    def steps(self) -> int:
        """Number of steps N."""
        return len(self.sigmas) - 1


class NetworkSizes(Protocol):
    """Sizes of what can be captured in one pass of one latent, in elements."""

    def attention_outputs(self) -> int:
        """Of the outputs of all attentions of one kind."""

    def deep_feature(self, branch: int) -> int:
        """Of the deep feature at a skip connection; 0 for a network that has none."""


class TechniqueRun:
    """One technique in one sampling run. Nothing that is not overridden has an effect.

    Attributes:
        needs_full: steps that must run whole, for what is captured in them.
        shallow: steps in which this technique leaves out part of the network.
        skipped: steps in which it keeps the network from running, as far as that is planned.
    """

    needs_full: frozenset[int] = frozenset()
    shallow: frozenset[int] = frozenset()
    skipped: frozenset[int] = frozenset()

    @property
    def saves(self) -> bool:
        """Whether any step of the run is cheaper than in the plain run."""
        return False

    @property
    def is_watching(self) -> bool:
        """Whether there is anything to do in a run that saves nothing."""
        return False

    def lay_out(self, layout: Layout) -> None:
        """All techniques have begun: take into account what the others need."""

    def opening_reasons(self, saves_nothing: bool) -> Iterable[str]:
        """Why less will be done than the node asks for, as far as that is known before the first step.

        Args:
            saves_nothing: whether the whole run is left as it is.
        """
        return ()

    def closing_reasons(self) -> Iterable[str]:
        """Why less was done than was planned, as far as that shows once the run is over."""
        return ()

    @property
    def side_notes(self) -> frozenset[str]:
        """Reasons of its own beside which a closing reason is still worth giving."""
        return frozenset()

    def begin_step(self, step: int, now: int, forgotten: int) -> None:
        """The run came to a later step than before; what was last used before time `forgotten` may go."""

    def plan(self, plan: BatchPlan) -> BatchPlan:
        """The plan with this technique's part in it; `plan` as it is where there is none."""
        return plan

    def begin_call(self, call: ForwardCall, parts: Sequence[tuple[CondKey, object]], x: Tensor) -> None:
        """A network call begins that is not idle.

        Args:
            call: the call.
            parts: each cond in its batch, in order, and which part of the cond it is.
            x: the noisy latents, (conds * B, C, ...).
        """

    def finish(self, done: FinishedBatch, predictions: list[Tensor]) -> list[Tensor]:
        """Denoised predictions of each branch, (B, C, ...), as what comes next is to see them.

        Those of branches that did not run, all of them where the network did not, are meaningless until a technique
        puts its own in their place.
        """
        return predictions

    def note_anchor_miss(self, place: Place) -> None:
        """A pass on merged captures met a cross-attention without one: it is void and will be repeated."""

    def is_live(self, kind: CaptureKind, step: int) -> bool:
        """Whether captures of a kind that exist when a step begins are still going to be reused."""
        return False

    def held_elements(self, sizes: NetworkSizes) -> int:
        """Most elements of captures held at once for one latent and one branch."""
        return 0

    def complete(self, latent: Tensor) -> None:
        """The run came to its end and made `latent`, (B, C, ...)."""

    def close(self) -> None:
        """The run is over, however it ended: let go of everything."""


class Technique(Protocol):
    """A technique as a node has set it up: frozen, on the model, shared by all of its runs."""

    @property
    def cache_settings(self) -> CacheSettings | None:
        """Where captures are to live; None where that is not for this technique to say."""

    def begin(self, context: RunContext) -> TechniqueRun:
        """State for one sampling run.

        Raises:
            ValueError: it cannot be run as it was set up; the message says what to change.
        """
