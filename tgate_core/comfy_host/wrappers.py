"""Wrappers around the host's sampling: the run, its evaluations, their passes, the network calls.

All are plain functions that find their state in the options they are given; none keeps anything of its own.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..model_pass import ModelPass, PassPlan
from ..network_call import NetworkCall
from ..request import Place, latent_key
from ..run import RUN_TWICE, Run
from .at_hand import CallAtHand, at_hand
from .bare import bare
from .compiled import COMPILED_IN_PLACE, RUNS_UNCOMPILED, is_compiled_per_call, runs_compiled, uncompiled
from .conds import pass_request, window_key
from .deep_blocks import arranged_in_depth
from .families import visits_per_run
from .keys import PASS_KEY, RUN_KEY
from .network_runs import has_network_run, is_cut_by_host, is_from_host, surrounding
from .patches import Options, arranged, without_own
from .reporting import counted, reported
from .runs import deliver_measurement, start_run

if TYPE_CHECKING:
    from comfy.patcher_extension import WrapperExecutor


class RepeatEvaluation(BaseException):
    """Another node turned out to need the branch that was dropped: the evaluation is void.

    Not an Exception, so that no node on the way takes it for an error of its own.
    """


def outer_sample_wrapper(executor: WrapperExecutor, *args: Any, **kwargs: Any) -> Any:
    """A sampling run. Positional: noise, latent_image, sampler, sigmas (N + 1 values), …; class_obj is the guider."""
    guider, sampler, sigmas = executor.class_obj, args[2], args[3]
    options = guider.model_options["transformer_options"]
    run = start_run(guider, sampler, sigmas, args[0].shape)
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
    outer_evaluation, evaluation = run.evaluation, run.begin_evaluation(args[0])
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
    if not evaluation.admits(id(model), window, x_in):
        if run.note_auxiliary(evaluation, (cond["uuid"] for branch in conds for cond in branch or ())):
            raise RepeatEvaluation
        return executor(*args, **kwargs)
    sigma = float(timestep.flatten()[0])  # the one read of the device in a pass
    step = run.locate(evaluation, sigma)
    place = Place(id(model), window, evaluation.ordinal, None, latent_key(x_in, evaluation.shifts))
    request = pass_request(conds, sigma, place, tuple(x_in.shape[2:]))

    is_as_cut = is_cut_by_host(model_options)

    def run_pass(plan: PassPlan) -> tuple[list[Tensor], ModelPass]:
        model_pass = run.begin_pass(plan, x_in, is_as_cut)
        branches = [branch if plan.branch in (None, index) else None for index, branch in enumerate(conds)]
        pass_options = {**model_options, "transformer_options": surrounding(_pass_options(run, model_pass, options))}
        predictions = executor(model, branches, x_in, timestep, pass_options, *rest, **kwargs)
        return predictions, model_pass

    plan = run.plan(request, step)
    predictions, model_pass = run_pass(plan)
    if model_pass.is_void:
        run.note_void(plan)
        plan = run.plan_in_full(request, step)
        predictions, model_pass = run_pass(plan)
    elif model_pass.has_lost_text:
        run.note_lost_text(plan)
        plan = run.plan_guided(request, step)
        predictions, model_pass = run_pass(plan)
    if model_pass.has_run:
        run.measure(plan, x_in, predictions)
    return run.finish_pass(plan, predictions, sigma, model_pass.has_run)


def _pass_options(run: Run, model_pass: ModelPass, options: Options) -> Options:
    """The options of a pass: its state is found in them, and its network calls run uncompiled where it does a thing."""
    if not model_pass.is_idle and is_compiled_per_call(options):
        run.statistics.note(RUNS_UNCOMPILED)
        options = uncompiled(options)
    return {**options, PASS_KEY: model_pass}


def apply_model_wrapper(executor: WrapperExecutor, *args: Any, **kwargs: Any) -> Tensor:
    """One network call. Positional: x (conds * B, C, …), t, c_concat, c_crossattn, control, transformer_options."""
    *before, control, transformer_options = args[:6]
    run: Run | None = transformer_options.get(RUN_KEY)
    if run is None:
        return executor(*args, **kwargs)
    network = executor.class_obj.diffusion_model
    model_pass: ModelPass | None = transformer_options.get(PASS_KEY)
    call = None if model_pass is None else _begin_call(run, model_pass, network, transformer_options, args[0])
    current = CallAtHand(executor.class_obj, run, call)
    with at_hand(current), counted(run, call, args, kwargs):
        if call is None:
            result = executor(*before, control, without_own(transformer_options), *args[6:], **kwargs)
        else:
            options = arranged(transformer_options, call)
            if call.deep is not None:
                control, options = arranged_in_depth(network, run.deep.branch, call.deep, control, options)
            result = executor(*before, control, options, *args[6:], **kwargs)
    if model_pass is not None:
        model_pass.has_run = model_pass.has_run and has_network_run(current, transformer_options)
        if call is not None and not model_pass.end_call(call):
            run.statistics.note(RUN_TWICE)
    return result


def _begin_call(
    run: Run, model_pass: ModelPass, network: Any, transformer_options: Options, x: Tensor
) -> NetworkCall | None:
    """This network call of the pass at hand; None where there is nothing to do."""
    if model_pass.is_idle:
        return None
    if runs_compiled(run, network):
        run.statistics.note(COMPILED_IN_PLACE)
        model_pass.step_aside()
        return None
    if id(network) not in run.visits:
        run.visits[id(network)] = visits_per_run(network)
    branches, uuids = transformer_options.get("cond_or_uncond", ()), transformer_options.get("uuids", ())
    return model_pass.begin_call(branches, uuids, x, is_from_host(x, transformer_options), run.visits[id(network)])
