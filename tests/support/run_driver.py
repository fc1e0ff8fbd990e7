"""A whole run, driven pass by pass as the host does it, with numbers for attention outputs and predictions.

The attentions of step i give 10 * i + 4 for cond and 10 * i + 2 for uncond, so a mean of both ends in 3.
"""

from dataclasses import dataclass, field, replace
from itertools import product

import torch

from tgate_core.engine.actions import ATTENTION_KINDS, CROSS_ATTENTION
from tgate_core.engine.cache import CaptureCache
from tgate_core.engine.counts import RunCounts
from tgate_core.engine.identity import COND, UNCOND, CondBatch, CondKey, ModelEvaluation, Place
from tgate_core.engine.run import Run
from tgate_core.engine.storage import CacheSettings, CaptureStorage
from tgate_core.engine.technique import BatchPlan, FinishedBatch, RunContext
from tgate_core.gate.config import GateConfig
from tgate_core.gate.technique import GateRun

LATENT = (1, 4, 8, 8)
ZEROS = torch.zeros(LATENT)
STEPS = 6
SIGMAS = tuple(float(STEPS - step) for step in range(STEPS + 1))  # 6, 5, … 0
C, U = CondKey(COND, "c"), CondKey(UNCOND, "u")
HERE = Place(model=1, window=None, evaluation=0, conds=None)
WHOLE = frozenset({LATENT[2:]})
PAIR = CondBatch(HERE, ((C,), (U,)), {C: WHOLE, U: WHOLE})
COND_ALONE = CondBatch(HERE, ((C,), None), {C: WHOLE})


def cross_only(guidance="uncond", **settings):
    return GateConfig(guidance=guidance, self_attention=False, **settings)


@dataclass(frozen=True)
class GateAt:
    """A gate whose step is known."""

    config: GateConfig
    gate_step: int

    @property
    def cache_settings(self):
        return CacheSettings(self.config.cache_device, self.config.cache_limit_mb)

    def begin(self, context):
        return GateRun(self.config, context, self.gate_step)


def start(config, gate_step=3, sigmas=SIGMAS, store=None, others=()):
    """A run with the gate at a step, and other techniques behind it."""
    gate, store = GateAt(config, gate_step), store or CaptureStorage("model", lambda device: False)
    cache = CaptureCache(store, config.cache_limit_mb * 2**20)
    context = RunContext(tuple(sigmas), True, cache, RunCounts(), store, gate.cache_settings)
    return Run(context, [gate, *others])


def plan_guided(run, batch, step):
    """The plan that stands in for one that missed the anchor's captures."""
    return run._refined(BatchPlan(batch, step, is_repeated=True))


def finish(run, plan, predictions, sigma, has_run=True):
    """What the guidance formula sees of a pass that ran."""
    return run.finish(FinishedBatch(plan, ZEROS, sigma, has_run), predictions)


def value_of(step, cond):
    return 10.0 * step + (4 if cond.branch == COND else 2)


@dataclass
class Seen:
    """What one evaluation did: its plan, what each attention gave by kind and cond, and the predictions."""

    plan: BatchPlan
    given: dict[str, dict[CondKey, float]]
    predictions: list[torch.Tensor]
    reused: int
    repeated: bool


@dataclass
class Driver:
    """Evaluates the model as the host does.

    `in_one_call` puts all conds into one batch; `rows` gives conds another number of tokens than 2.
    """

    run: Run
    in_one_call: bool = True
    rows: dict[CondKey, int] = field(default_factory=dict)
    sites: int = 1

    def evaluate(self, step, request=PAIR, sigma=None):
        sigma = SIGMAS[step] if sigma is None else sigma
        evaluation = ModelEvaluation(ZEROS)
        assert self.run.locate(evaluation, sigma) == step
        request = replace(request, place=request.place._replace(evaluation=evaluation.ordinal))
        plan = self.run.plan(request, step)
        given, reused, done = self._pass(plan, step)
        repeated = self.run.plan_again(plan, done)
        if repeated is not None:
            plan = repeated
            given, reused, _ = self._pass(plan, step)
        predictions = [torch.full(LATENT, 100.0 * (branch + 1) + step) for branch in range(len(request.branches))]
        predictions = finish(self.run, plan, predictions, sigma)
        return Seen(plan, given, predictions, reused, repeated is not None)

    def _pass(self, plan, step):
        latent = ZEROS
        batch_pass = self.run.begin_pass(plan, latent)
        conds = [
            cond
            for branch in range(len(plan.batch.branches))
            if plan.branch in (None, branch)
            for cond in plan.batch.conds(branch)
        ]
        is_batch = self.in_one_call and not self.rows
        given, reused = {kind: {} for kind in ATTENTION_KINDS}, 0
        for group in [conds] if is_batch else [[cond] for cond in conds]:
            x = latent.repeat(len(group), 1, 1, 1)
            call = batch_pass.begin_call([c.branch for c in group], [c.uuid for c in group], x)
            for site, kind in product(range(self.sites), ATTENTION_KINDS):
                output = self._attend(call, kind, site, group, step)
                for cond, tokens in zip(group, output.chunk(len(group)), strict=True):
                    given[kind][cond] = tokens[0, 0, 0].item()
            reused += call.reused.total()
        return given, reused, batch_pass

    def _attend(self, call, kind, site, group, step):
        output = torch.cat([torch.full((1, self.rows.get(cond, 2), 3), value_of(step, cond)) for cond in group])
        reused = call.reuse(kind, ("middle", 0), site, output)
        return call.capture(kind, output) if reused is None else reused


def cross_given(driver, steps=range(STEPS), request=PAIR):
    """Cross-attention outputs by step; conds that did not run are absent."""
    return [{key.uuid: v for key, v in driver.evaluate(i, request).given[CROSS_ATTENTION].items()} for i in steps]


BEFORE_GATE_3 = [{"c": 4.0, "u": 2.0}, {"c": 14.0, "u": 12.0}, {"c": 24.0, "u": 22.0}]
