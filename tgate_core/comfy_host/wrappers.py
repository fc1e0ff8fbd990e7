"""Wrappers around the host's sampling: the run, its evaluations, their passes, the network calls.

All are plain functions that find their state in the options they are given; none keeps anything of its own.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..evaluation import Evaluation
from ..model_pass import ModelPass, PassPlan
from ..network_call import NetworkCall
from ..request import Place
from ..run import Run
from .at_hand import CallAtHand, at_hand
from .bare import bare
from .conds import pass_request, window_key
from .deep_blocks import arranged_in_depth
from .keys import PASS_KEY, RUN_KEY
from .patches import Options, arranged, without_own
from .reporting import counted, reported
from .runs import deliver_measurement, start_run

if TYPE_CHECKING:
    from comfy.patcher_extension import WrapperExecutor

_DYNAMO = "torch._dynamo"
# Under which the host's compile node adds its wrapper.
COMPILE_KEY = "torch.compile"


class RepeatEvaluation(BaseException):
    """Another node turned out to need the branch that was dropped: the evaluation is void.

    Not an Exception, so that no node on the way takes it for an error of its own.
    """


def outer_sample_wrapper(executor: WrapperExecutor, *args: Any, **kwargs: Any) -> Any:
    """A sampling run. Positional: noise, latent_image, sampler, sigmas (N + 1 values), …; class_obj is the guider."""
    guider, sigmas = executor.class_obj, args[3]
    options = guider.model_options["transformer_options"]
    run = start_run(guider, sigmas, args[0].shape)
    with reported(guider, run) as outcome:
        if run is None or run.is_plain:
            with bare(guider):
                outcome.result = executor(*args, **kwargs)
            return outcome.result
        options[RUN_KEY] = run
        try:
            outcome.result = executor(*args, **kwargs)
            deliver_measurement(guider, run)
            return outcome.result
        finally:
            options.pop(RUN_KEY, None)
            run.close()


def predict_noise_wrapper(executor: WrapperExecutor, *args: Any, **kwargs: Any) -> Any:
    """One evaluation of the model by the sampler. Positional: x (B, C, …), timestep, model_options, seed."""
    run: Run | None = args[2].get("transformer_options", {}).get(RUN_KEY)
    if run is None:
        return executor(*args, **kwargs)
    outer_evaluation, evaluation = run.evaluation, Evaluation(tuple(args[0].shape))
    try:
        run.evaluation = evaluation
        with suppress(RepeatEvaluation):
            return executor(*args, **kwargs)
        run.evaluation = evaluation.again()
        return executor(*args, **kwargs)
    finally:
        run.evaluation = outer_evaluation


def calc_cond_batch_wrapper(executor: WrapperExecutor, *args: Any, **kwargs: Any) -> list[Tensor]:
    """One pass over the conds of all branches. Positional: model, conds, x_in, timestep (B,), model_options."""
    model, conds, x_in, timestep, model_options, *rest = args
    options = model_options.get("transformer_options", {})
    run: Run | None = options.get(RUN_KEY)
    evaluation = None if run is None else run.evaluation
    if run is None or evaluation is None:
        return executor(*args, **kwargs)
    window = window_key(options)
    if not evaluation.admits(id(model), window, tuple(x_in.shape)):
        if run.note_auxiliary(evaluation, (cond["uuid"] for branch in conds for cond in branch or ())):
            raise RepeatEvaluation
        return executor(*args, **kwargs)
    sigma = float(timestep.flatten()[0])  # the one read of the device in a pass
    step = run.locate(evaluation, sigma)
    place = Place(id(model), window, evaluation.ordinal, None)
    request = pass_request(conds, sigma, place, tuple(x_in.shape[2:]))

    def run_pass(plan: PassPlan) -> tuple[list[Tensor], bool]:
        model_pass = run.begin_pass(plan, x_in)
        branches = [branch if plan.branch in (None, index) else None for index, branch in enumerate(conds)]
        pass_options = {**model_options, "transformer_options": {**options, PASS_KEY: model_pass}}
        with nullcontext() if model_pass.is_idle else _uncompiled():
            predictions = executor(model, branches, x_in, timestep, pass_options, *rest, **kwargs)
        return predictions, model_pass.has_lost_text

    plan = run.plan(request, step)
    predictions, has_lost_text = run_pass(plan)
    if has_lost_text:
        run.note_lost_text(plan)
        plan = run.plan_guided(request, step)
        predictions, _ = run_pass(plan)
    run.measure(plan, x_in, predictions)
    return run.finish_pass(plan, predictions, sigma)


def apply_model_wrapper(executor: WrapperExecutor, *args: Any, **kwargs: Any) -> Tensor:
    """One network call. Positional: x (conds * B, C, …), t, c_concat, c_crossattn, control, transformer_options."""
    *before, control, transformer_options = args[:6]
    run: Run | None = transformer_options.get(RUN_KEY)
    if run is None:
        return executor(*args, **kwargs)
    call = _begin_call(transformer_options, args[0])
    with at_hand(CallAtHand(executor.class_obj, run, call)), counted(run, call, args, kwargs):
        if call is None:
            return executor(*before, control, without_own(transformer_options), *args[6:], **kwargs)
        if COMPILE_KEY in transformer_options.get("wrappers", {}).get(WrappersMP.APPLY_MODEL, {}):
            run.statistics.note("torch.compile: calls that capture or reuse attention run uncompiled")
        options = arranged(transformer_options, call)
        if call.deep is not None:
            network = executor.class_obj.diffusion_model
            control, options = arranged_in_depth(network, run.deep.branch, call.deep, control, options)
        return executor(*before, control, options, *args[6:], **kwargs)


def _begin_call(transformer_options: Options, x: Tensor) -> NetworkCall | None:
    """This network call of the pass at hand; None outside of passes, and where there is nothing to do."""
    model_pass: ModelPass | None = transformer_options.get(PASS_KEY)
    if model_pass is None:
        return None
    if _is_compiler_in_the_way():
        model_pass.step_aside()
        return None
    branches, uuids = transformer_options.get("cond_or_uncond", ()), transformer_options.get("uuids", ())
    return model_pass.begin_call(branches, uuids, x)


def _uncompiled() -> AbstractContextManager[None]:
    """Runs what follows without torch's compiler.

    The host's compile node tells the compiler to disregard these options: it would replay what the first call of a
    shape did in all later ones, whatever they were to reuse. That torch is told so holds for all threads: around a
    network call, those of several devices would take each other's for what was there before, and leave it behind.
    """
    if _DYNAMO not in sys.modules or _is_compiler_in_the_way():
        return nullcontext()
    return torch.compiler.set_stance("force_eager")


def _is_compiler_in_the_way() -> bool:
    """Whether a compiler is loaded that cannot be told to stand aside (torch before 2.6)."""
    return _DYNAMO in sys.modules and not hasattr(torch.compiler, "set_stance")
