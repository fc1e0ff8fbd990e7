"""A whole run, driven pass by pass as the host does it, with numbers for attention outputs and predictions.

The attentions of step i give 10 * i + 4 for cond and 10 * i + 2 for uncond, so a mean of both ends in 3.
"""

from dataclasses import dataclass, field, replace
from itertools import product

import torch

from tgate_core.config import GateConfig
from tgate_core.model_pass import PassPlan
from tgate_core.request import COND, UNCOND, CondKey, PassRequest, Place
from tgate_core.run import Evaluation, Run
from tgate_core.schedule import ATTENTION_KINDS, CROSS_ATTENTION
from tgate_core.storage import CaptureStorage

LATENT = (1, 4, 8, 8)
ZEROS = torch.zeros(LATENT)
STEPS = 6
SIGMAS = tuple(float(STEPS - step) for step in range(STEPS + 1))  # 6, 5, … 0
C, U = CondKey(COND, "c"), CondKey(UNCOND, "u")
HERE = Place(model=1, window=None, evaluation=0, conds=None)
WHOLE = frozenset({LATENT[2:]})
PAIR = PassRequest(HERE, ((C,), (U,)), {C: WHOLE, U: WHOLE})
COND_ALONE = PassRequest(HERE, ((C,), None), {C: WHOLE})


def cross_only(guidance="uncond", **settings):
    return GateConfig(guidance=guidance, self_attention=False, **settings)


def start(config, gate_step=3, sigmas=SIGMAS):
    return Run(config, sigmas, gate_step, CaptureStorage("model", lambda device: False))


def value_of(step, cond):
    return 10.0 * step + (4 if cond.branch == COND else 2)


@dataclass
class Seen:
    """What one evaluation did: its plan, what each attention gave by kind and cond, and the predictions."""

    plan: PassPlan
    given: dict[str, dict[CondKey, float]]
    predictions: list[torch.Tensor]
    skipped: int
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
        evaluation = Evaluation(ZEROS)
        assert self.run.locate(evaluation, sigma) == step
        request = replace(request, place=request.place._replace(evaluation=evaluation.ordinal))
        plan = self.run.plan(request, step)
        given, skipped, has_lost_text = self._pass(plan, step)
        if has_lost_text:
            self.run.note_lost_text(plan)
            plan = self.run.plan_guided(request, step)
            given, skipped, _ = self._pass(plan, step)
        predictions = [torch.full(LATENT, 100.0 * (branch + 1) + step) for branch in range(len(request.branches))]
        predictions = self.run.finish_pass(plan, predictions, sigma)
        return Seen(plan, given, predictions, skipped, has_lost_text)

    def _pass(self, plan, step):
        latent = ZEROS
        model_pass = self.run.begin_pass(plan, latent)
        conds = [
            cond
            for branch in range(len(plan.request.branches))
            if plan.branch in (None, branch)
            for cond in plan.request.conds(branch)
        ]
        is_batch = self.in_one_call and not self.rows
        given, skipped = {kind: {} for kind in ATTENTION_KINDS}, 0
        for group in [conds] if is_batch else [[cond] for cond in conds]:
            x = latent.repeat(len(group), 1, 1, 1)
            call = model_pass.begin_call([c.branch for c in group], [c.uuid for c in group], x)
            for site, kind in product(range(self.sites), ATTENTION_KINDS):
                output = self._attend(call, kind, site, group, step)
                for cond, tokens in zip(group, output.chunk(len(group)), strict=True):
                    given[kind][cond] = tokens[0, 0, 0].item()
            skipped += 0 if call is None else call.skipped.total()
        return given, skipped, model_pass.has_lost_text

    def _attend(self, call, kind, site, group, step):
        output = torch.cat([torch.full((1, self.rows.get(cond, 2), 3), value_of(step, cond)) for cond in group])
        if call is None:
            return output
        is_skipped = call.enter(kind, ("middle", 0), site, output)
        return call.leave(kind, torch.full_like(output, float("nan")) if is_skipped else output)


def cross_given(driver, steps=range(STEPS), request=PAIR):
    """Cross-attention outputs by step; conds that did not run are absent."""
    return [{key.uuid: v for key, v in driver.evaluate(i, request).given[CROSS_ATTENTION].items()} for i in steps]


BEFORE_GATE_3 = [{"c": 4.0, "u": 2.0}, {"c": 14.0, "u": 12.0}, {"c": 24.0, "u": 22.0}]
